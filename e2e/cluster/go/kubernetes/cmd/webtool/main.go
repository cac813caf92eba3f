// Command webtool is the smallest workload that shows that a cluster works.
//
//	webtool serve :8080 /folder   serves the files of a folder
//	webtool get URL               prints what the URL answers
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 3 && arguments[0] == "serve":
		return http.ListenAndServe(arguments[1], http.FileServer(http.Dir(arguments[2])))
	case len(arguments) == 2 && arguments[0] == "get":
		return get(arguments[1])
	default:
		return fmt.Errorf("usage: webtool serve ADDRESS FOLDER | webtool get URL")
	}
}

// patience covers the second between a pod's readiness and the rules of its service.
const patience = 30 * time.Second

func get(url string) error {
	answer, err := ask(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

// ask asks again only while the connection is refused; an unknown name is an answer.
func ask(url string) (*http.Response, error) {
	client := http.Client{Timeout: 10 * time.Second}
	deadline := time.Now().Add(patience)
	for {
		answer, err := client.Get(url)
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline) {
			return answer, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
