package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// makers are the faults by the catalogue's names.
var makers = map[string]func(*Strike) actions{
	"kill":               kill,
	"kill-during":        killDuring,
	"pause":              pause,
	"zombie":             pause, // longer than the lease
	"freeze":             freeze,
	"restart-loop":       restartLoop,
	"oom":                oom,
	"starve-descriptors": starveDescriptors,
	"starve-cpu":         starveCPU,

	"isolate":     isolate,
	"partition":   partition,
	"deaf":        deaf,
	"mute":        mute,
	"flap":        flap,
	"cut-clients": cutClients,
	"loss":        worse,
	"delay":       worse,
	"duplicate":   worse,
	"reorder":     worse,
	"corrupt":     worse,
	"throttle":    worse,
	"mtu":         worse,

	"disk-full":        diskFull,
	"disk-write-error": diskError,
	"disk-sync-error":  diskError,
	"disk-slow":        diskSlow,
	"disk-hang":        diskHang,
	"power":            power,
	"flip-byte":        damage,
	"truncate":         damage,
	"lose-folder":      damage,
	"lose-log":         damage,
	"damage-snapshot":  damage,

	"clock-jump":   clockJump,
	"clock-strobe": clockStrobe,

	"transfer":                transfer,
	"join":                    join,
	"leave":                   leave,
	"replace":                 replace,
	"promote-during-snapshot": promoteDuringSnapshot,
	"rolling-restart":         rolling,
	"rolling-upgrade":         rolling,
	"rolling-rollback":        rolling,
	"twin":                    twin,

	"report-cut":   reportFault,
	"report-twice": reportFault,
	"report-late":  reportFault,

	"client-twice": clientTwice,
	"client-deaf":  clientDeaf,
	"herd":         herd,
}

// each does f for every target at once.
func (s *Strike) each(f func(*Node) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.Targets))
	for i, n := range s.Targets {
		wg.Go(func() {
			if err := f(n); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// revive starts the process of every target that has none.
func (s *Strike) revive(context.Context) error {
	return s.each(func(n *Node) error {
		if n.gone.Load() || n.Alive() {
			return nil
		}
		return s.lab.cluster.StartNode(n.Node)
	})
}

// quick ends a process that may be gone already.
func quick(n *Node, sig os.Signal) error {
	err := n.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// loop runs f over and over until stop, which waits for its end and returns
// the first error.
func loop(ctx context.Context, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Heal ends it
	done := make(chan error, 1)
	go func() {
		for {
			if err := f(ctx); err != nil {
				if ctx.Err() != nil {
					err = nil
				}
				done <- err
				return
			}
		}
	}()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	})
}
