package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy/discovery/digitalocean"
)

const (
	lookAtDroplets = 2 * time.Second // while they are being made
	mostUserData   = 64 << 10        // bytes, which the API takes
)

// dropletFlags are what droplets are made of, as flags.
type dropletFlags struct {
	digitalocean.Wish

	userData string // a file
	wait     bool
	timeout  time.Duration
}

func newDropletsCreateCommand(env *environment) *cobra.Command {
	var f dropletFlags
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Make droplets",
		Long: `Make droplets, all alike. They cost money from now on, also when they are off: 'cutover droplets destroy' ends that.

Regions, sizes and images are named by their slugs; an image or an SSH key may be named by its id as well.`,
		Example: `  cutover droplets create web-3 --region fra1 --size s-1vcpu-1gb --image debian-13-x64 --tag web --wait
  cutover droplets create web-3 web-4 --region fra1 --size s-2vcpu-4gb --image 12345678 --ssh-keys 7,3b:16:bf --user-data init.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			wish, err := f.wish(env, args)
			if err != nil {
				return err
			}
			return withAccount(env, func(a *digitalocean.Account) error { return f.create(cmd.Context(), env, a, wish) })
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.Names, "name", nil, "name of a droplet, as the arguments are")
	flags.StringVar(&f.Region, "region", "", "where, such as fra1")
	flags.StringVar(&f.Size, "size", "", "how large, such as s-1vcpu-1gb")
	flags.StringVar(&f.Image, "image", "", "what is on its disk: a slug such as debian-13-x64, or the id of an image or a snapshot")
	flags.StringSliceVar(&f.Tags, "tag", nil, "tag, by which an upstream finds it; may be given again")
	flags.StringSliceVar(&f.SSHKeys, "ssh-keys", nil, "ids or fingerprints of keys of the account, separated by commas")
	flags.StringVar(&f.userData, "user-data", "", "file that cloud-init runs at the first start; - for the standard input")
	flags.BoolVar(&f.wait, "wait", false, "return when they are active, with their addresses")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "how long --wait waits at most")
	return cmd
}

func (f *dropletFlags) wish(env *environment, args []string) (digitalocean.Wish, error) {
	wish := f.Wish
	wish.Names = append(args[:len(args):len(args)], wish.Names...)
	for flag, value := range map[string]string{"region": wish.Region, "size": wish.Size, "image": wish.Image} {
		if value == "" {
			return wish, withHint(&usageError{errors.New("--region, --size and --image are needed")}, "--"+flag+" is missing: see https://slugs.do-api.dev for those there are")
		}
	}
	if len(wish.Names) == 0 {
		return wish, withHint(&usageError{errors.New("a droplet needs a name")}, "run 'cutover droplets create --help'")
	}
	var err error
	wish.UserData, err = readUserData(env, f.userData)
	return wish, err
}

func readUserData(env *environment, file string) (string, error) {
	var text []byte
	var err error
	switch file {
	case "":
		return "", nil
	case "-":
		text, err = io.ReadAll(io.LimitReader(env.stdin, mostUserData+1))
	default:
		text, err = os.ReadFile(file)
	}
	if err == nil && len(text) > mostUserData {
		err = fmt.Errorf("it has more than %d bytes", mostUserData)
	}
	if err != nil {
		return "", withHint(fmt.Errorf("--user-data: %w", err), "name a file for cloud-init, of at most 64 KiB")
	}
	return string(text), nil
}

func (f *dropletFlags) create(ctx context.Context, env *environment, a *digitalocean.Account, wish digitalocean.Wish) error {
	list, err := a.Create(ctx, wish)
	if err != nil {
		return err
	}
	if f.wait {
		limit, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		for i := range list {
			if list[i], err = awaitDroplet(limit, env, a, list[i]); err != nil {
				break
			}
		}
	}
	return errors.Join(printDroplets(env, list), err)
}

// awaitDroplet shows the progress: on a terminal each look, elsewhere what changes.
func awaitDroplet(ctx context.Context, env *environment, a *digitalocean.Account, d digitalocean.Droplet) (digitalocean.Droplet, error) {
	began, last := time.Now(), ""
	return a.AwaitActive(ctx, d.ID, lookAtDroplets, func(d digitalocean.Droplet) {
		switch {
		case d.Status != last:
			_, _ = fmt.Fprintf(env.stderr, "%s (%d) is %s\n", oneLine(d.Name), d.ID, d.Status)
		case env.stdoutIsTerminal:
			_, _ = fmt.Fprintf(env.stderr, "%s (%d) is still %s after %s\n", oneLine(d.Name), d.ID, d.Status, ageText(time.Since(began)))
		}
		last = d.Status
	})
}
