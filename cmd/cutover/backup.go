package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cutover/rules/store"
)

func newBackupCommand(env *environment) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the rules into a file while everything runs",
		Long: `Copy rules.db into a file, as it stands at one moment, while everything runs. The copy is checked before it gets its
name. To use it: '.restore FILE' at the sqlite3 prompt of rules.db, or stop cutover, cp, start.

It has the rules and their journal. Certificates and keys are files of the state directory and are not in it.`,
		Example: "  cutover backup /var/backups/rules-$(date +%F).db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := env.config()
			if err != nil {
				return err
			}
			path, err := backupPath(config, args[0], force)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error { return backup(cmd.Context(), env, s, path) })
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite FILE if it exists")
	return cmd
}

// backupPath returns where the copy goes. It must not be the database itself.
func backupPath(config Config, name string, force bool) (string, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", withHint(err, "give a file in a folder that you can write to")
	}
	if rules, err := os.Stat(filepath.Join(config.StateDir, store.File)); err == nil && os.SameFile(info, rules) {
		return "", withHint(fmt.Errorf("%s is the database itself", path), "give another file")
	}
	if !info.Mode().IsRegular() {
		return "", withHint(fmt.Errorf("%s is no plain file", path), "give another name")
	}
	if !force {
		return "", withHint(fmt.Errorf("%s exists already", path), "give another name, or --force to overwrite it")
	}
	return path, nil
}

// backup writes the copy beside its place and moves it there when it is whole, checked and on disk.
func backup(ctx context.Context, env *environment, s *session, path string) error {
	temporary := path + ".new"
	size, err := writeBackup(ctx, env, s, temporary)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary) // it may not be there
		if errors.Is(err, fs.ErrPermission) {
			return withHint(err, "give a file in a folder that the owner of the rules can write to")
		}
		return err
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, map[string]any{"file": path, "bytes": size})
	}
	return say(env.stdout, "%s: %s, checked", path, sizeText(size))
}

// writeBackup makes the file, which only its owner can read.
func writeBackup(ctx context.Context, env *environment, s *session, path string) (size int64, err error) {
	copied, size, err := s.Backup(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = copied.Close() }() // it was only read
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.MultiWriter(file, &progress{env: env, total: size}), copied)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return 0, err
	}
	if err := store.CheckBackup(ctx, path); err != nil {
		return 0, withHint(fmt.Errorf("the copy is not whole: %w", err), "try again; nothing was written over")
	}
	return size, nil
}

// syncFolder makes the new name of a file in folder durable.
func syncFolder(folder string) error {
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// progress shows on a terminal how much has come.
type progress struct {
	env         *environment
	done, total int64
	shown       time.Time
}

func (p *progress) Write(data []byte) (int, error) {
	p.done += int64(len(data))
	if !p.env.stdoutIsTerminal || p.env.output == "json" {
		return len(data), nil
	}
	if p.done == p.total {
		fmt.Fprint(p.env.stdout, "\r\x1b[K")
	} else if time.Since(p.shown) > 100*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.env.stdout, "\r%s of %s", sizeText(p.done), sizeText(p.total))
	}
	return len(data), nil
}

// sizeText prints a number of bytes for people.
func sizeText(size int64) string {
	if size < 1_000_000 {
		return fmt.Sprintf("%.1f kB", float64(size)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(size)/1e6)
}
