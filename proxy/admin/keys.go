package admin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
)

// Keys is a file of API keys. It is read at each use, so that a key that was added or taken away counts at once.
//
// A line is NAME:HASH, where HASH is the SHA-256 of the key in hexadecimal; empty lines and lines that start with #
// do not count. NAME is what the journal of changes calls the holder. To make a key and its line:
//
//	key=$(openssl rand -hex 32)
//	echo "grafana:$(printf %s "$key" | sha256sum | cut -d' ' -f1)"
//
// A hash without salt is enough because a key is random, not a password.
type Keys struct {
	Path string
}

// maxKeyFile bounds what is read of the file.
const maxKeyFile = 1 << 20

// key is a line of the file.
type key struct {
	name string
	hash [sha256.Size]byte
}

// Check returns what is wrong with the file, for a test before a deploy. A file that does not exist is well: it
// lets nobody in.
func (k *Keys) Check() error {
	_, err := k.load()
	return err
}

// Holder returns the name of the key's holder. The error is an *Error with status 401 if there is none.
func (k *Keys) Holder(presented string) (string, error) {
	known, err := k.load()
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(presented))
	name, found := "", 0
	for _, each := range known { // all of them, so that the time taken does not tell which one was close
		if subtle.ConstantTimeCompare(hash[:], each.hash[:]) == 1 {
			name, found = each.name, 1
		}
	}
	if found == 0 {
		return "", refuse(http.StatusUnauthorized, "the keys that count are in the file that 'cutover config' names as admin_keys", "this API key is not known")
	}
	return name, nil
}

func (k *Keys) load() ([]key, error) {
	if k == nil || k.Path == "" {
		return nil, nil
	}
	file, err := os.Open(k.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the API keys: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	_ = file.Close() // it was only read
	if err != nil {
		return nil, fmt.Errorf("cannot read the API keys: %w", err)
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("the file of API keys %s is larger than 1 MiB", k.Path)
	}
	return parseKeys(k.Path, data)
}

// parseKeys refuses the whole file for one bad line: who mistypes a line must learn of it.
func parseKeys(path string, data []byte) ([]key, error) {
	var keys []key
	lines := bufio.NewScanner(bytes.NewReader(data))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		each, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		keys = append(keys, each)
	}
	return keys, lines.Err()
}

func parseKey(line string) (key, error) {
	name, text, _ := strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	hash, err := hex.DecodeString(strings.TrimSpace(text))
	if name == "" || err != nil || len(hash) != sha256.Size {
		return key{}, errors.New("must be NAME:HASH, where HASH is 64 hexadecimal digits")
	}
	return key{name: name, hash: [sha256.Size]byte(hash)}, nil
}
