// A component as a child process: started, watched, stopped.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

type child struct {
	name    string
	command *exec.Cmd
	log     string
	ended   chan struct{}
}

// Starts a component: the program of this name in `assets` if there is one, otherwise this binary under that name.
func startChild(name, assets, folder string, arguments []string) (*child, error) {
	log := filepath.Join(folder, name+".log")
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	words := append([]string{name}, arguments...)
	if assets != "" {
		if found, err := exec.LookPath(filepath.Join(assets, name)); err == nil {
			program, words = found, arguments
		}
	}
	command := exec.Command(program, words...)
	command.Dir = folder
	command.Stdout, command.Stderr = output, output
	// A group of its own, so that an interrupt at the terminal reaches us alone and the order of the end is ours.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	started := &child{name: name, command: command, log: log, ended: make(chan struct{})}
	go func() {
		_ = command.Wait()
		close(started.ended)
	}()
	return started, nil
}

func (c *child) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Ends it, politely for a while.
func (c *child) stop(patience time.Duration) {
	_ = c.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
		return
	case <-time.After(patience):
	}
	_ = c.command.Process.Kill()
	<-c.ended
}

// What it said last, for whoever has to find out why it ended.
func (c *child) lastWords() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}
