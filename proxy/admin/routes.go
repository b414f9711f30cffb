package admin

import "net/http"

// routes lists everything that the API answers.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", s.answering(s.health))
	mux.Handle("GET /readyz", s.answering(s.ready))
	mux.Handle("GET /metrics", s.answering(s.metrics))
	mux.Handle("GET /v1/status", s.answering(s.status))
	mux.Handle("GET /v1/rules", s.answering(s.listRules))
	mux.Handle("GET /v1/redirects", s.answering(s.listRedirects))
	mux.Handle("GET /v1/upstreams", s.answering(s.listUpstreams))
	mux.Handle("GET /v1/hosts", s.answering(s.listHosts))
	mux.Handle("GET /v1/guards", s.answering(s.listGuards))
	mux.Handle("POST /v1/edits", s.answering(s.atWriter(s.edit)))
	mux.Handle("POST /v1/explain", s.answering(s.explain))
	mux.Handle("GET /v1/history", s.answering(s.history))
	mux.Handle("POST /v1/undo", s.answering(s.atWriter(s.undo)))
	mux.Handle("POST /v1/restore", s.answering(s.atWriter(s.restore)))
	mux.Handle("GET /v1/backup", s.answering(s.backup))
	mux.Handle("GET /v1/redirects/check", s.answering(s.checkRedirects))
	mux.Handle("POST /v1/import/{table}", s.answering(s.atWriterStreamed(s.importTable)))
	mux.Handle("GET /v1/export/{table}", s.answering(s.exportTable))
	mux.Handle("GET /v1/certificates/prefetch", s.answering(s.prefetched))
	mux.Handle("POST /v1/certificates/prefetch", s.answering(s.prefetch))
	mux.Handle("POST /v1/certificates/prefetch/cancel", s.answering(s.cancelPrefetch))
	mux.Handle("GET /v1/certificates", s.answering(s.listCertificates))
	mux.Handle("GET /v1/certificates/{name}", s.answering(s.showCertificate))
	mux.Handle("POST /v1/certificates/{name}/retry", s.answering(s.atWriter(s.retryCertificate)))
	mux.Handle("POST /v1/certificates/{name}/revoke", s.answering(s.atWriter(s.revokeCertificate)))
	mux.Handle("POST /v1/certificates", s.answering(s.atWriter(s.importCertificates)))
	mux.Handle("/", s.answering(s.unknown))
	return mux
}

// unknown answers every other path, and a known path with another method.
func (s *Server) unknown(_ http.ResponseWriter, r *http.Request) error {
	return refuse(http.StatusNotFound, "GET /v1/status, /v1/rules, /v1/redirects, /v1/upstreams, /v1/hosts, /v1/guards, /v1/history, /v1/backup, /v1/export/rules, /v1/certificates; "+
		"POST /v1/edits, /v1/explain, /v1/undo, /v1/restore, /v1/import/rules, /v1/certificates",
		"there is no %s %s", r.Method, r.URL.Path)
}
