// Faults to order: lines on standard input, each answered by one line of JSON.
//
//	stop COMPONENT     ends it (kube-apiserver, kube-controller-manager, etcd), its data kept
//	start COMPONENT    starts it again on its old port and waits until it is well
//	compact            forgets the history of all objects
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// How a command ended; `error` is absent when it did what it says.
type answer struct {
	Command string `json:"command"`
	Error   string `json:"error,omitempty"`
}

func (p *controlPlane) obey(command string) answer {
	if err := p.try(strings.Fields(command)); err != nil {
		return answer{command, err.Error()}
	}
	return answer{Command: command}
}

func (p *controlPlane) try(words []string) error {
	switch {
	case slices.Equal(words, []string{"compact"}):
		return p.compact()
	case len(words) == 2 && words[0] == "stop" && p.children[words[1]] != nil:
		p.children[words[1]].stop(10 * time.Second)
		delete(p.children, words[1])
		return nil
	case len(words) == 2 && words[0] == "start" && p.children[words[1]] == nil && p.ports[words[1]] != 0:
		if err := p.startComponent(words[1]); err != nil {
			return err
		}
		return p.await(words[1], func() bool { return false })
	default:
		return fmt.Errorf("no such command now")
	}
}

// Compacts the store up to its present revision.
func (p *controlPlane) compact() error {
	status, err := p.post("/v3/maintenance/status", map[string]any{})
	if err != nil {
		return err
	}
	var now struct {
		Header struct {
			Revision json.Number `json:"revision"`
		} `json:"header"`
	}
	if err := json.Unmarshal(status, &now); err != nil {
		return err
	}
	_, err = p.post("/v3/kv/compaction", map[string]any{"revision": now.Header.Revision.String(), "physical": true})
	return err
}

func (p *controlPlane) post(path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	reply, err := p.client.Post(p.etcdAddress()+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("etcd answers %s: %s", reply.Status, content)
	}
	return content, err
}
