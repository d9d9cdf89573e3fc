// Renders the ways to install Crossfade as Helm and kustomize do, to standard output: `render helm FOLDER [NAME=VALUE …]`, `render kustomize FOLDER`.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	text, err := render(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}

func render(arguments []string) (string, error) {
	if len(arguments) < 2 {
		return "", fmt.Errorf("usage: render helm|kustomize FOLDER [NAME=VALUE …]")
	}
	switch how, folder := arguments[0], arguments[1]; how {
	case "helm":
		return helm(folder, arguments[2:])
	case "kustomize":
		return kustomize(folder)
	default:
		return "", fmt.Errorf("nobody renders with %s", how)
	}
}

func helm(folder string, settings []string) (string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return "", err
	}
	given := map[string]any{}
	for _, setting := range settings {
		if err := strvals.ParseInto(setting, given); err != nil {
			return "", err
		}
	}
	release := common.ReleaseOptions{Name: "crossfade", Namespace: "crossfade", Revision: 1, IsInstall: true}
	values, err := util.ToRenderValues(chart, given, release, common.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(chart, values)
	if err != nil {
		return "", err
	}
	var documents []string
	for _, definition := range chart.CRDObjects() {
		documents = append(documents, string(definition.File.Data))
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if text := files[name]; strings.TrimSpace(text) != "" && !strings.HasSuffix(name, "NOTES.txt") {
			documents = append(documents, text)
		}
	}
	return strings.Join(documents, "\n---\n"), nil
}

func kustomize(folder string) (string, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return "", err
	}
	text, err := built.AsYaml()
	return string(text), err
}
