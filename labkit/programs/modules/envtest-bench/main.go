// envtest-bench starts and stops a control plane with controller-runtime's envtest.
//
// The bench runs it on the very binaries that a lab uses, so that the two are
// compared in one run on one machine.  KUBEBUILDER_ASSETS names the folder with
// etcd and kube-apiserver, as envtest itself expects.  One JSON object goes to
// stdout: {"ready": [seconds per start], "stop": [seconds per stop]}.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

type result struct {
	Ready []float64 `json:"ready"`
	Stop  []float64 `json:"stop"`
}

func main() {
	count := flag.Int("n", 3, "how many times to start and stop")
	timeout := flag.Duration("timeout", time.Minute, "how long one start may take")
	flag.Parse()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fail("KUBEBUILDER_ASSETS is not set: it names the folder with etcd and kube-apiserver")
	}
	var seen result
	for range *count {
		if err := once(&seen, *timeout); err != nil {
			fail(err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		fail(err)
	}
}

// once measures one start, up to a first answered read, and one stop.
func once(seen *result, timeout time.Duration) (err error) {
	plane := &envtest.Environment{
		ControlPlaneStartTimeout: timeout,
		ControlPlaneStopTimeout:  timeout,
	}
	began := time.Now()
	config, err := plane.Start()
	defer func() {
		stopping := time.Now()
		stopped := plane.Stop()
		seen.Stop = append(seen.Stop, time.Since(stopping).Seconds())
		if err == nil {
			err = stopped
		}
	}()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().Namespaces().List(context.Background(), metav1.ListOptions{}); err != nil {
		return err
	}
	seen.Ready = append(seen.Ready, time.Since(began).Seconds())
	return nil
}

func fail(reason any) {
	fmt.Fprintln(os.Stderr, "envtest-bench:", reason)
	os.Exit(1)
}
