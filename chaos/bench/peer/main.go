// Command peer loads an etcd cluster with the same clients and the same
// payload as holdfast, and prints what it measured as JSON. It is a module of
// its own: nothing of the product depends on etcd.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"holdfast/chaos/bench/load"
)

// keyBytes is what a command's unique key takes of its bytes.
const keyBytes = 16

type options struct {
	load      load.Options
	endpoints string
	ca        string
	conns     int
	payload   int
}

func main() {
	var o options
	flag.StringVar(&o.endpoints, "endpoints", "", "https addresses, separated by commas")
	flag.StringVar(&o.ca, "ca", "", "PEM file of the CA that the servers' certificates are from")
	flag.IntVar(&o.conns, "conns", 1, "connections that the clients share")
	flag.IntVar(&o.payload, "payload", 128, "bytes of one command: a key of 16 and its value")
	flag.IntVar(&o.load.Clients, "clients", 256, "clients")
	flag.IntVar(&o.load.MaxOps, "max-ops", 0, "end after so many operations")
	flag.DurationVar(&o.load.Warmup, "warmup", time.Second, "time that is not counted")
	flag.DurationVar(&o.load.Duration, "duration", 5*time.Second, "time that is counted")
	flag.Parse()
	report, err := run(context.Background(), o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (load.Report, error) {
	if o.conns < 1 || o.payload <= keyBytes || o.load.Clients < 1 {
		return load.Report{}, errors.New("want at least one connection, one client and 17 bytes")
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return load.Report{}, fmt.Errorf("read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return load.Report{}, fmt.Errorf("%s holds no certificate", o.ca)
	}
	conns := make([]*clientv3.Client, o.conns)
	for i := range conns {
		// Connected before the clock starts.
		dial, cancel := context.WithTimeout(ctx, 10*time.Second)
		conns[i], err = clientv3.New(clientv3.Config{
			Endpoints: strings.Split(o.endpoints, ","), TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13},
			DialTimeout: 5 * time.Second, Logger: zap.NewNop(), Context: ctx,
		})
		if err == nil {
			_, err = conns[i].Get(dial, "warm")
		}
		cancel()
		if err != nil {
			return load.Report{}, fmt.Errorf("connect to %s: %w", o.endpoints, err)
		}
		defer conns[i].Close()
	}
	var next atomic.Uint64
	return load.Closed(ctx, o.load, func(ctx context.Context, client int) (int, error) {
		key := make([]byte, keyBytes)
		binary.BigEndian.PutUint64(key, next.Add(1))
		value := make([]byte, o.payload-keyBytes)
		if _, err := rand.Read(value); err != nil {
			return 0, err
		}
		_, err := conns[client%len(conns)].Put(ctx, string(key), string(value))
		return 1, err
	}), nil
}
