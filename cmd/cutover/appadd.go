package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cutover/systemd/apps"
)

// appFlags are what is said of a program on the command line.
type appFlags struct {
	exec, timeLimit      string
	env                  []string
	http, h2c, fcgi, cgi bool
	app                  apps.App
	times                appTimes
}

func newAppAddCommand(env *environment) *cobra.Command {
	var f appFlags
	cmd := &cobra.Command{
		Use:   "add NAME --exec \"CMD ARGS\" --user USER",
		Short: "Let systemd run a program, and start it",
		Long: `Let systemd run a program: write /etc/cutover/apps/NAME.toml and the units, start it, and wait until it is healthy. If it does not
become so, nothing is left of it.

The program gets its socket as systemd hands sockets over (LISTEN_FDS, descriptor 3), or with --stdin as descriptor 0, as FastCGI
has it. It speaks HTTP/1.1 (--http), HTTP/2 in clear text (--h2c) or FastCGI (--fcgi). With --cgi it is started for each request
instead. --exec is split as a shell does; no shell runs it, and nothing in it is expanded.

A program that dies is started again at once; one that does so again and again, up to 10 s later. Requests wait for it.`,
		Example: `  sudo useradd --system shop
  sudo cutover app add shop --exec "/opt/shop/shop --workers 4" --user shop --health /up --env MODE=live
  sudo cutover app add blog --exec /usr/bin/php-cgi --user blog --fcgi --stdin --env PHP_FCGI_CHILDREN=4
  sudo cutover app add form --exec /usr/lib/cgi-bin/form.pl --user form --cgi
  sudo cutover upstreams set v2 app:shop          cgi:form for a CGI program`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.fill(); err != nil {
				return withHint(&usageError{err}, "see: cutover app add --help")
			}
			return withManager(env, f.times, func(m *apps.Manager) error {
				if err := m.Add(cmd.Context(), args[0], f.app); err != nil {
					return err
				}
				status, err := m.Show(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return say(env.stdout, "%s runs, process %d.\nNext: cutover upstreams set v2 %s", args[0], status.PID, status.Target)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (f *appFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.exec, "exec", "", "the executable's absolute path, and its arguments")
	flags.StringVar(&f.app.User, "user", "", "the user that it runs as")
	flags.BoolVar(&f.http, "http", false, "it speaks HTTP/1.1, which is the default")
	flags.BoolVar(&f.h2c, "h2c", false, "it speaks HTTP/2 in clear text")
	flags.BoolVar(&f.fcgi, "fcgi", false, "it speaks FastCGI")
	flags.BoolVar(&f.cgi, "cgi", false, "it is started for each request")
	flags.BoolVar(&f.app.Stdin, "stdin", false, "its socket is descriptor 0, not announced by LISTEN_FDS")
	flags.StringVar(&f.app.Health, "health", "", "path that answers 200 to 399 once it is ready; '' for: it accepts connections")
	flags.StringArrayVar(&f.env, "env", nil, "a variable of its environment, which every user can see: KEY=VALUE")
	flags.StringVar(&f.app.EnvFile, "env-file", "", "file with further variables, read by systemd as root: for secrets")
	flags.StringVar(&f.app.Workdir, "workdir", "", "folder that it runs in (default /)")
	flags.IntVar(&f.app.Backlog, "backlog", 0, "connections that wait for it at most (default 128)")
	flags.IntVar(&f.app.CGI.Processes, "processes", 0, "with --cgi: processes at once (default 16)")
	flags.IntVar(&f.app.CGI.Waiting, "waiting", 0, "with --cgi: requests that wait for one; others get 503 (default 100)")
	flags.StringVar(&f.timeLimit, "time-limit", "", "with --cgi: how long a request may take (default 1m)")
	flags.BoolVar(&f.app.AllowRoot, "allow-root", false, "let it run as root, which a program that visitors reach should not")
	f.times.addPatience(cmd)
}

// fill makes the program of the flags.
func (f *appFlags) fill() (err error) {
	if f.exec == "" || f.app.User == "" {
		return errors.New("--exec and --user are missing: what is run, and as which user")
	}
	if f.app.Exec, err = apps.Words(f.exec); err != nil {
		return fmt.Errorf("--exec: %w", err)
	}
	if f.app.Protocol, err = f.protocol(); err != nil {
		return err
	}
	f.app.CGI.TimeLimit = f.timeLimit
	f.app.Env = map[string]string{}
	for _, text := range f.env {
		key, value, found := strings.Cut(text, "=")
		if !found {
			return errors.New("--env must be KEY=VALUE")
		}
		f.app.Env[key] = value
	}
	return f.app.Validate()
}

func (f *appFlags) protocol() (string, error) {
	var given []string
	for _, one := range []struct {
		name  string
		given bool
	}{{apps.HTTP, f.http}, {apps.H2C, f.h2c}, {apps.FCGI, f.fcgi}, {apps.CGI, f.cgi}} {
		if one.given {
			given = append(given, one.name)
		}
	}
	switch len(given) {
	case 0:
		return apps.HTTP, nil
	case 1:
		return given[0], nil
	}
	return "", fmt.Errorf("--%s and --%s cannot both be given", given[0], given[1])
}
