package box

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
)

// Stage is what a box lives in outside of tests: the first fatal error ends the work, and clean-ups run in any case.
type Stage struct {
	log     io.Writer
	err     error
	folders []string
	cleanup []func()
}

// Play runs work on a stage, in a goroutine of its own, and returns its fatal error. log gets what the stage tells.
func Play(log io.Writer, work func(*Stage) error) error {
	s := &Stage{log: log}
	ended := make(chan struct{})
	go func() { // ends before play does
		defer close(ended)
		defer s.clean()
		s.err = errors.Join(s.err, work(s))
	}()
	<-ended
	return s.err
}

func (s *Stage) clean() {
	for _, work := range slices.Backward(s.cleanup) {
		work()
	}
	for _, folder := range s.folders {
		s.err = errors.Join(s.err, os.RemoveAll(folder))
	}
}

// Helper is testing's.
func (s *Stage) Helper() {}

// Cleanup runs work at the end, the last first.
func (s *Stage) Cleanup(work func()) { s.cleanup = append(s.cleanup, work) }

// TempDir is a folder that is removed at the end.
func (s *Stage) TempDir() string {
	folder, err := os.MkdirTemp("", "cutover-measure-*")
	if err != nil {
		s.Fatal(err)
	}
	s.folders = append(s.folders, folder)
	return folder
}

// Failed reports whether there was a fatal error.
func (s *Stage) Failed() bool { return s.err != nil }

// Logf tells.
func (s *Stage) Logf(format string, arguments ...any) { fmt.Fprintf(s.log, format+"\n", arguments...) }

// Fatal ends the work.
func (s *Stage) Fatal(arguments ...any) {
	s.err = errors.Join(s.err, errors.New(fmt.Sprint(arguments...)))
	runtime.Goexit()
}

// Fatalf ends the work.
func (s *Stage) Fatalf(format string, arguments ...any) {
	s.err = errors.Join(s.err, fmt.Errorf(format, arguments...))
	runtime.Goexit()
}
