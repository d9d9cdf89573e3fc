// The components themselves: each is the program of its project, unchanged, under a name of this binary.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
)

// runComponent becomes the component of this name and returns its exit code. The three share global flags, loggers and metrics, so each needs
// a process of its own.
func runComponent(name string, arguments []string) int {
	os.Args = append([]string{name}, arguments...)
	switch name {
	case etcd:
		etcdmain.Main(os.Args)
		return 0
	case apiServer:
		return cli.Run(apiserver.NewAPIServerCommand())
	default:
		return cli.Run(controllermanager.NewControllerManagerCommand())
	}
}
