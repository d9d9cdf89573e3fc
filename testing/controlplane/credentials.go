// Who may speak to the API server: its certificate, one token for each actor, and the kubeconfig that names them all.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

// An actor: a user of the API server with groups. Rights come from the groups and from what a test binds to the name.
type actor struct {
	name   string
	groups []string
}

// The group whose requests are in the audit log, beside those of service accounts.
const controllers = "crossfade:controllers"

var actors = []actor{
	{"admin", []string{"system:masters"}},
	// Stands for all nodes and for the scheduler.
	{"kubelet", []string{"system:masters"}},
	// What applies manifests from a repository, again and again.
	{"gitops", []string{"system:masters"}},
	// A person with the rights that a test gives.
	{"developer", nil},
	// Crossfade, and a second of it that competes for leadership: with the rights of the role that we ship, once a test binds it.
	{"crossfade", []string{controllers}},
	{"crossfade-other", []string{controllers}},
}

func newToken() (string, error) {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		return "", err
	}
	return hex.EncodeToString(bytes), nil
}

// Writes the token file of the API server and returns the tokens by actor.
func writeTokens(path string) (map[string]string, error) {
	tokens := map[string]string{}
	var file strings.Builder
	for _, actor := range actors {
		token, err := newToken()
		if err != nil {
			return nil, err
		}
		tokens[actor.name] = token
		fmt.Fprintf(&file, "%s,%s,%s,%q\n", token, actor.name, actor.name, strings.Join(actor.groups, ","))
	}
	return tokens, os.WriteFile(path, []byte(file.String()), 0o600)
}

// Writes a kubeconfig (JSON is YAML) with a context for each actor.
func writeKubeconfig(path, server string, authority []byte, tokens map[string]string, current string) error {
	type named map[string]any
	var users, contexts []named
	for _, actor := range actors {
		users = append(users, named{"name": actor.name, "user": named{"token": tokens[actor.name]}})
		contexts = append(contexts, named{"name": actor.name, "context": named{"cluster": "test", "user": actor.name}})
	}
	text, err := json.MarshalIndent(named{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []named{{"name": "test", "cluster": named{
			"server":                     server,
			"certificate-authority-data": base64.StdEncoding.EncodeToString(authority),
		}}},
		"users":           users,
		"contexts":        contexts,
		"current-context": current,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	bytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: bytes}), 0o600)
}

// Writes a certificate for loopback addresses with its key, and returns the certificate of the authority that signed it.
func writeCertificate(certificatePath, keyPath string) ([]byte, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	begin := time.Now().Add(-time.Hour)
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "crossfade tests"},
		NotBefore:             begin,
		NotAfter:              begin.AddDate(0, 1, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	authorityBytes, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	key, err := newKey(keyPath)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:    begin,
		NotAfter:     begin.AddDate(0, 1, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{"localhost", "kubernetes.default.svc"},
	}
	leafBytes, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	encode := func(bytes []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bytes}) }
	return encode(authorityBytes), os.WriteFile(certificatePath, encode(leafBytes), 0o600)
}
