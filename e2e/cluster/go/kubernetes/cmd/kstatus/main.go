// Command kstatus reads Kubernetes objects, as YAML or JSON documents, from its standard input and
// prints what sigs.k8s.io/cli-utils/pkg/kstatus makes of each: one status a line, in order. It is
// the judge of the health table, so that the table says what tools like Flux really conclude.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

const bufferBytes = 4096

func main() {
	if err := report(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func report(in io.Reader, out io.Writer) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bufio.NewReader(in), bufferBytes)
	for number := 1; ; number++ {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		result, err := status.Compute(&object)
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		fmt.Fprintln(out, result.Status)
	}
}
