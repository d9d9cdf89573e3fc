// The control plane as a whole: which components with which flags, and when it is ready.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// How long a component may take until it is ready, on a machine with much else to do.
	startPatience = 2 * time.Minute
	// How often new ports are tried when a component ends while it starts: another process may have taken one in between.
	attempts = 3
)

// The built-in controllers that a release meets. There are no nodes to look after.
var builtInControllers = []string{
	"deployment-controller", "replicaset-controller", "statefulset-controller", "daemonset-controller", "job-controller", "cronjob-controller",
	"ttl-after-finished-controller", "horizontal-pod-autoscaler-controller", "disruption-controller", "garbage-collector-controller",
	"endpoints-controller", "endpointslice-controller", "namespace-controller", "resourcequota-controller", "serviceaccount-controller",
	"clusterrole-aggregation-controller", "root-ca-certificate-publisher-controller",
}

// What the API server logs: the requests of Crossfade and of service accounts, bodies of writes included, so that preconditions can be checked.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  userGroups: ["` + controllers + `", "system:serviceaccounts"]
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
  userGroups: ["` + controllers + `", "system:serviceaccounts"]
- level: None
`

type controlPlane struct {
	folder, assets string
	tokens         map[string]string
	authority      []byte
	client         *http.Client
	ports          map[string]int
	children       map[string]*child
}

func newControlPlane(parent, assets string) (*controlPlane, error) {
	folder, err := makeFolder(parent)
	if err != nil {
		return nil, err
	}
	plane := &controlPlane{folder: folder, assets: assets, children: map[string]*child{}}
	if err := plane.write(); err != nil {
		plane.remove()
		return nil, err
	}
	return plane, nil
}

func (p *controlPlane) path(name string) string { return filepath.Join(p.folder, name) }

// Writes what does not depend on ports.
func (p *controlPlane) write() error {
	var err error
	if p.tokens, err = writeTokens(p.path("tokens.csv")); err != nil {
		return err
	}
	if p.authority, err = writeCertificate(p.path("server.crt"), p.path("server.key")); err != nil {
		return err
	}
	if _, err = newKey(p.path("service-accounts.key")); err != nil {
		return err
	}
	if err = os.WriteFile(p.path("ca.crt"), p.authority, 0o600); err != nil {
		return err
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(p.authority)
	p.client = &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}, DisableKeepAlives: true},
	}
	return os.WriteFile(p.path("audit-policy.yaml"), []byte(auditPolicy), 0o600)
}

// Starts everything; nil without an error when it is over before that.
func (p *controlPlane) start(over func() bool) (*readiness, error) {
	var err error
	for range attempts {
		if err = p.startOnce(over); err == nil || errors.Is(err, errOver) {
			break
		}
		p.stopAll()
	}
	if errors.Is(err, errOver) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	version, err := p.version()
	if err != nil {
		return nil, err
	}
	processes := map[string]int{}
	for name, child := range p.children {
		processes[name] = child.command.Process.Pid
	}
	return &readiness{
		Kubeconfig: p.path("kubeconfig"),
		Server:     p.server(),
		Version:    version,
		Audit:      p.path("audit.jsonl"),
		Folder:     p.folder,
		Processes:  processes,
	}, nil
}

var errOver = errors.New("the end was asked for")

func (p *controlPlane) startOnce(over func() bool) error {
	if err := os.RemoveAll(p.path("etcd")); err != nil {
		return err
	}
	ports, err := freePorts(etcd, "etcd-peers", apiServer, controllerManager)
	if err != nil {
		return err
	}
	p.ports = ports
	if err := writeKubeconfig(p.path("kubeconfig"), p.server(), p.authority, p.tokens, "admin"); err != nil {
		return err
	}
	for _, name := range []string{etcd, apiServer, controllerManager} {
		if err := p.startComponent(name); err != nil {
			return err
		}
		if err := p.await(name, over); err != nil {
			return err
		}
	}
	return nil
}

func (p *controlPlane) server() string {
	return fmt.Sprintf("https://127.0.0.1:%d", p.ports[apiServer])
}

func (p *controlPlane) etcdAddress() string { return fmt.Sprintf("http://127.0.0.1:%d", p.ports[etcd]) }

func (p *controlPlane) startComponent(name string) error {
	started, err := startChild(name, p.assets, p.folder, p.arguments(name))
	if err != nil {
		return err
	}
	p.children[name] = started
	return nil
}

func (p *controlPlane) arguments(name string) []string {
	switch name {
	case etcd:
		peers := fmt.Sprintf("http://127.0.0.1:%d", p.ports["etcd-peers"])
		return []string{
			"--data-dir=" + p.path("etcd"),
			"--listen-client-urls=" + p.etcdAddress(), "--advertise-client-urls=" + p.etcdAddress(),
			"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=default=" + peers,
			// The data ends with the process.
			"--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296",
		}
	case apiServer:
		return []string{
			"--etcd-servers=" + p.etcdAddress(),
			"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", p.ports[apiServer]),
			"--tls-cert-file=" + p.path("server.crt"), "--tls-private-key-file=" + p.path("server.key"),
			"--token-auth-file=" + p.path("tokens.csv"),
			"--authorization-mode=RBAC",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-signing-key-file=" + p.path("service-accounts.key"), "--service-account-key-file=" + p.path("service-accounts.key"),
			"--service-cluster-ip-range=10.96.0.0/16",
			"--audit-policy-file=" + p.path("audit-policy.yaml"), "--audit-log-path=" + p.path("audit.jsonl"),
			// A log that is cut in the middle of a count would be worse than a long one.
			"--audit-log-maxsize=100000",
			// Nobody reaches the API server through its Service here.
			"--endpoint-reconciler-type=none",
			// Pods may come in the moment their namespace is there; nothing mounts a token.
			"--disable-admission-plugins=ServiceAccount",
			"--allow-privileged=true", "--profiling=false",
		}
	default:
		return []string{
			"--kubeconfig=" + p.path("kubeconfig"), "--authentication-skip-lookup=true",
			"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", p.ports[controllerManager]),
			"--tls-cert-file=" + p.path("server.crt"), "--tls-private-key-file=" + p.path("server.key"),
			"--root-ca-file=" + p.path("ca.crt"),
			"--leader-elect=false",
			"--controllers=" + strings.Join(builtInControllers, ","),
			"--kube-api-qps=500", "--kube-api-burst=1000",
			"--horizontal-pod-autoscaler-sync-period=1s",
			"--profiling=false",
		}
	}
}

// Waits until a component answers that it is well.
func (p *controlPlane) await(name string, over func() bool) error {
	address := map[string]string{
		etcd:              p.etcdAddress() + "/health",
		apiServer:         p.server() + "/readyz",
		controllerManager: fmt.Sprintf("https://127.0.0.1:%d/healthz", p.ports[controllerManager]),
	}[name]
	child := p.children[name]
	last := errors.New("not asked")
	for begin := time.Now(); time.Since(begin) < startPatience; time.Sleep(20 * time.Millisecond) {
		if over() {
			return errOver
		}
		if !child.alive() {
			return fmt.Errorf("%s ended while it started:\n%s", name, child.lastWords())
		}
		if _, last = p.get(address); last == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is not ready after %s: %w\n%s", name, startPatience, last, child.lastWords())
}

func (p *controlPlane) get(address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+p.tokens["admin"])
	answer, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", address, answer.Status)
	}
	return body, err
}

func (p *controlPlane) version() (string, error) {
	body, err := p.get(p.server() + "/version")
	if err != nil {
		return "", err
	}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	err = json.Unmarshal(body, &version)
	return version.GitVersion, err
}

// An error when a component has ended that nobody stopped.
func (p *controlPlane) complain() error {
	for _, child := range p.children {
		if !child.alive() {
			return fmt.Errorf("%s ended by itself:\n%s", child.name, child.lastWords())
		}
	}
	return nil
}

func (p *controlPlane) stopAll() {
	// Who asks first, then who answers: nobody waits for a server that has gone. Its data ends with it, so it need not be polite for long.
	for _, name := range []string{controllerManager, apiServer, etcd} {
		if child := p.children[name]; child != nil {
			child.stop(200 * time.Millisecond)
			delete(p.children, name)
		}
	}
}

// Ends everything that was started and removes the data folder.
func (p *controlPlane) remove() {
	p.stopAll()
	os.RemoveAll(p.folder)
}

// Ports that nobody listens on, below the range from which the system takes ports for connections and for servers that ask for any.
func freePorts(names ...string) (map[string]int, error) {
	ports := map[string]int{}
	for _, name := range names {
		for range 1000 {
			listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000)))
			if err != nil {
				continue
			}
			// Held until all are found, so that no two are the same.
			defer listener.Close()
			ports[name] = listener.Addr().(*net.TCPAddr).Port
			break
		}
		if ports[name] == 0 {
			return nil, errors.New("no free port on the loopback address")
		}
	}
	return ports, nil
}
