package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cutover/rules/store"
)

type (
	authorKey struct{} // who makes this request: a store.Author
	peerKey   struct{} // who holds the other end of this connection: a peer
)

// peer is what the kernel says of the other end of a unix socket.
type peer struct {
	credentials *unix.Ucred
	err         error
}

func withAuthor(ctx context.Context, author store.Author) context.Context {
	return context.WithValue(ctx, authorKey{}, author)
}

func authorOf(ctx context.Context) store.Author {
	author, _ := ctx.Value(authorKey{}).(store.Author)
	return author
}

// As makes author the one who edits through next, a Handler(true). It is for a handler that is called in process,
// where there is no socket to ask.
func As(author store.Author, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(withAuthor(r.Context(), author)))
	})
}

// UserName names a user for the journal of changes: "root (uid 0)", or "uid 1234" if the system does not know it.
func UserName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("%s (uid %s)", u.Username, id)
	}
	return "uid " + id
}

// askPeer is an http.Server's ConnContext: it asks the kernel once per connection.
func askPeer(ctx context.Context, c net.Conn) context.Context {
	credentials, err := peerCredentials(c)
	return context.WithValue(ctx, peerKey{}, peer{credentials, err})
}

func peerCredentials(c net.Conn) (*unix.Ucred, error) {
	connection, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%T is not a unix socket", c)
	}
	raw, err := connection.SyscallConn()
	if err != nil {
		return nil, err
	}
	var credentials *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		credentials, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return credentials, asked
}

// localAuthor returns who edits: the author that As gave, or else the peer of the unix socket.
func localAuthor(ctx context.Context) (store.Author, error) {
	if author := authorOf(ctx); author.Name != "" {
		return author, nil
	}
	from, ok := ctx.Value(peerKey{}).(peer)
	if !ok {
		return store.Author{}, errors.New("a local request came over no unix socket")
	}
	if from.err != nil {
		return store.Author{}, fmt.Errorf("ask the kernel who is calling: %w", from.err)
	}
	return store.Author{Name: UserName(int(from.credentials.Uid)), Via: "admin socket"}, nil
}

// keyAuthor returns the holder of the API key that came with a request.
func (s *Server) keyAuthor(r *http.Request) (store.Author, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return store.Author{}, refuse(http.StatusUnauthorized, "send the header 'Authorization: Bearer KEY'", "an API key is needed here")
	}
	name, err := s.Keys.Holder(strings.TrimSpace(key))
	if err != nil {
		return store.Author{}, err
	}
	return store.Author{Name: "key " + name, Via: "admin api"}, nil
}
