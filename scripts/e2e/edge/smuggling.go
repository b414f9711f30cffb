package main

import (
	"context"
	"net"
	"sync"

	"cutover/scripts/e2e/edge/smuggle"
)

const recorderAddress = "127.0.0.1:9003" // an upstream of cutover's

// smuggled is what became of a vector.
type smuggled = smuggle.Outcome

// smuggle sends all vectors of request smuggling.
func (in *inside) smuggle(ctx context.Context, m *measured) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", recorderAddress)
	if err != nil {
		return err
	}
	recorder := &smuggle.Recorder{}
	serving, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { recorder.Serve(serving, listener) })
	defer running.Wait()
	defer stop()
	prover := &smuggle.Prover{Address: plainAddress, Recorder: recorder}
	for _, v := range smuggle.Vectors() {
		outcome, err := prover.Prove(ctx, v)
		if err != nil {
			return err
		}
		m.Smuggling = append(m.Smuggling, outcome)
	}
	return nil
}

// reasons are vectors that do not pass, for a reason. Keys are their names.
func reasons() map[string]string {
	return map[string]string{}
}
