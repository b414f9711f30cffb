package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

// maxPassword is how many bytes of a password bcrypt looks at.
const maxPassword = 72

func newGuardsPasswordCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "password NAME",
		Short: "Turn a password into what --user takes",
		Long: `Read a password from the standard input, one line of it, and print NAME:HASH for 'cutover guards set --user'. On a terminal it
is asked for and not shown. Nothing is stored; the hash (bcrypt) tells the password to nobody.`,
		Example: `  cutover guards password anna
  cutover guards set staging.example.com --user "$(cutover guards password anna)"
  cutover guards password anna <password.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if name == "" || strings.ContainsAny(name, ": ,") || oneLine(name) != name {
				return withHint(&usageError{fmt.Errorf("%q cannot be the name of a user", name)}, "give a name without spaces, commas and colons")
			}
			password, err := readPassword(env, name)
			if err != nil {
				return err
			}
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
			if err != nil {
				return err
			}
			return say(env.stdout, "%s:%s", name, hash)
		},
	}
}

// readPassword asks for a password twice on a terminal, and reads a line elsewhere.
func readPassword(env *environment, name string) (password string, err error) {
	if file, ok := env.stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		password, err = askPassword(env, file, name)
	} else {
		password, err = bufio.NewReader(io.LimitReader(env.stdin, 1<<10)).ReadString('\n')
		password = strings.TrimRight(password, "\r\n")
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return "", err
	case password == "":
		return "", withHint(&usageError{errors.New("the password is empty")}, "type one, or send it to the standard input")
	case len(password) > maxPassword:
		return "", withHint(&usageError{fmt.Errorf("the password has more than %d bytes", maxPassword)}, "bcrypt would pass over the rest: take a shorter one")
	}
	return password, nil
}

func askPassword(env *environment, file *os.File, name string) (string, error) {
	var typed [2]string
	for i, prompt := range []string{"Password for " + name + ": ", "Once more: "} {
		_, _ = fmt.Fprint(env.stderr, prompt)
		text, err := term.ReadPassword(int(file.Fd()))
		_, _ = fmt.Fprintln(env.stderr)
		if err != nil {
			return "", err
		}
		typed[i] = string(text)
	}
	if typed[0] != typed[1] {
		return "", withHint(&usageError{errors.New("the two are not the same")}, "run the command again")
	}
	return typed[0], nil
}
