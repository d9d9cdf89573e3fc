// The data folder: made anew for each control plane, removed with it, and removed by the next one when its owner was killed.
package main

import (
	"os"
	"path/filepath"
	"syscall"
)

const folderPrefix = "crossfade-controlplane-"

// Makes a data folder that is held as long as this process lives.
func makeFolder(parent string) (string, error) {
	removeAbandoned(parent)
	folder, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return "", err
	}
	// Go closes files on exec, so no child keeps the lock alive.
	lock, err := os.Create(filepath.Join(folder, "new-lock"))
	if err != nil {
		return "", err
	}
	heldLock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	// Under its name only once it is held: whoever finds it there and free may take the folder for abandoned.
	return folder, os.Rename(lock.Name(), filepath.Join(folder, "lock"))
}

// Kept open, and with it the lock.
var heldLock *os.File

func removeAbandoned(parent string) {
	folders, _ := filepath.Glob(filepath.Join(parent, folderPrefix+"*"))
	for _, folder := range folders {
		// One without the file is just being made.
		lock, err := os.Open(filepath.Join(folder, "lock"))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(folder)
		}
		lock.Close()
	}
}
