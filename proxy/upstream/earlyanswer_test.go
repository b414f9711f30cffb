package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// The visitor of an upload may wait for the end of an answer that has come already, before he sends more.
func TestAnAnswerByHTTP2IsClosedWhileItsRequestStillWaits(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	reader, writer := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", reader)
	if err != nil {
		t.Fatal(err)
	}
	pool := newSet(t, Options{}).For(upstreamOf("h2c://" + server.Listener.Addr().String()))
	ended := make(chan string)
	go func() {
		defer close(ended)
		response, err := pool.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		ended <- string(text)
	}()
	if got := <-ended; got != "too large\n" {
		t.Errorf("%q", got)
	}
	_ = writer.Close()
	<-ended
}
