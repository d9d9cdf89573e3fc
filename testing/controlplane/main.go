// A Kubernetes control plane for tests: etcd, the API server and the built-in controllers on loopback ports, with a folder that lives as long as they do.
//
//	controlplane [--assets DIR] [--folder DIR]
//
// Standard output is for programs: one line of JSON when everything is ready (see readiness), then one for each command that arrives on standard
// input (see commands.go). It ends, with its children and its folder, when standard input closes, when its parent is gone, or by SIGTERM or SIGINT.
//
// The binary starts itself again for each component; as `controlplane kube-apiserver ...` it is that component.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// What is told on standard output when the control plane is ready.
type readiness struct {
	// A kubeconfig with one context for each actor, named for it; `admin` is the current one.
	Kubeconfig string `json:"kubeconfig"`
	// The address of the API server.
	Server string `json:"server"`
	// What the API server calls itself, for example v1.36.3.
	Version string `json:"version"`
	// The API server's log of what Crossfade asked it for: one JSON object a line.
	Audit string `json:"audit"`
	// The folder with everything, the components' logs included.
	Folder string `json:"folder"`
	// Process ids by component.
	Processes map[string]int `json:"processes"`
}

func init() {
	// A child is ended with the thread that started it. The first thread lives as long as the process, so it starts all of them.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case etcd, apiServer, controllerManager:
			os.Exit(runComponent(os.Args[1], os.Args[2:]))
		}
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "controlplane: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	assets := flag.String("assets", "", "a folder with programs to run instead of our own, where it has them")
	parent := flag.String("folder", os.TempDir(), "where the data folder is made")
	flag.Parse()

	ends := reasonsToEnd()
	plane, err := newControlPlane(*parent, *assets)
	if err != nil {
		return err
	}
	defer plane.remove()
	commands := make(chan string)
	closed := make(chan struct{})
	go readCommands(commands, closed)

	ready, err := plane.start(func() bool { return over(ends, closed) })
	if err != nil {
		return err
	}
	if ready == nil {
		return nil
	}
	answers := json.NewEncoder(os.Stdout)
	if err := answers.Encode(ready); err != nil {
		return err
	}
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ends:
			return nil
		case <-closed:
			return nil
		case command := <-commands:
			if err := answers.Encode(plane.obey(command)); err != nil {
				return err
			}
		case <-look.C:
			// A component that dies by itself is a fault of the control plane: better no answer than one of half a cluster.
			if err := plane.complain(); err != nil {
				return err
			}
		}
	}
}

func over(ends <-chan struct{}, closed <-chan struct{}) bool {
	select {
	case <-ends:
		return true
	case <-closed:
		return true
	default:
		return false
	}
}

// Closed when a signal asks for the end or the parent is gone.
func reasonsToEnd() <-chan struct{} {
	end := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	parent := os.Getppid()
	go func() {
		defer close(end)
		look := time.NewTicker(time.Second)
		for {
			select {
			case <-signals:
				return
			case <-look.C:
				if os.Getppid() != parent {
					return
				}
			}
		}
	}()
	return end
}

func readCommands(commands chan<- string, closed chan<- struct{}) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		commands <- lines.Text()
	}
	close(closed)
}
