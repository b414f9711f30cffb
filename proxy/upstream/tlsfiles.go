package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"cutover/rules"
)

// tlsNames are the files that a row of an upstream names, without their folder and ending.
type tlsNames struct{ ca, certificate string }

func tlsNamesOf(row *rules.TargetTLS) tlsNames { return tlsNames{row.CA, row.Certificate} }

// material is what such files hold.
type material struct {
	roots *x509.CertPool   // nil if the row names none
	own   *tls.Certificate // likewise
}

// tlsFiles reads the files by which targets are known, and we to them. They are looked at before each handshake, and by Run; when
// they have changed they are read again, and until new ones are whole the last good ones hold.
type tlsFiles struct {
	dir string
	log *slog.Logger

	none material // of rows that name no file

	mu   sync.Mutex
	read map[tlsNames]*tlsRead
}

type tlsRead struct {
	stamps  []fileStamp // of the files that were read last, good or not
	good    *material   // nil if they never were whole
	problem error       // of those that were read last
}

// fileStamp tells one version of a file from another.
type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64
	changed  syscall.Timespec // its owner and permissions as well
}

func newTLSFiles(dir string, log *slog.Logger) *tlsFiles {
	return &tlsFiles{dir: dir, log: log, read: map[tlsNames]*tlsRead{}}
}

// get returns what the files hold now. An error says that they never were whole.
func (f *tlsFiles) get(names tlsNames) (*material, error) {
	if names == (tlsNames{}) {
		return &f.none, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	read := f.look(names)
	if read.good == nil {
		return nil, read.problem
	}
	return read.good, nil
}

// keep forgets the files that no row names any more, and looks at the others.
func (f *tlsFiles) keep(rows []*rules.Upstream) {
	named := map[tlsNames]bool{}
	for _, row := range rows {
		named[tlsNamesOf(&row.TargetTLS)] = true
	}
	delete(named, tlsNames{})
	f.mu.Lock()
	defer f.mu.Unlock()
	for names := range f.read {
		if !named[names] {
			delete(f.read, names)
		}
	}
	for names := range named {
		f.look(names)
	}
}

// problems returns why files cannot be read as they were last, by their names.
func (f *tlsFiles) problems() map[tlsNames]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := map[tlsNames]string{}
	for names, read := range f.read {
		switch {
		case read.problem != nil && read.good != nil:
			list[names] = read.problem.Error() + "; the last good files hold"
		case read.problem != nil:
			list[names] = read.problem.Error()
		}
	}
	return list
}

// look reads the files if they have changed; it needs the lock. It looks at the dates first: should a file change meanwhile, the
// next look sees that.
func (f *tlsFiles) look(names tlsNames) *tlsRead {
	stamps := f.stamps(names)
	read, known := f.read[names]
	if known && slices.Equal(read.stamps, stamps) {
		return read
	}
	if !known {
		read = &tlsRead{}
		f.read[names] = read
	}
	now, err := f.load(names)
	read.stamps, read.problem = stamps, err
	if err != nil {
		f.log.Error("TLS files for targets cannot be read", slog.Bool("the last good ones hold", read.good != nil), slog.Any("error", err))
		return read
	}
	if read.good != nil {
		f.log.Info("TLS files for targets were read anew", slog.String("tls_ca", names.ca), slog.String("tls_certificate", names.certificate))
	}
	read.good = now
	return read
}

// stamps returns a zero stamp for a file that is not there.
func (f *tlsFiles) stamps(names tlsNames) []fileStamp {
	var stamps []fileStamp
	for _, path := range f.paths(names) {
		var stamp fileStamp
		if info, err := os.Stat(path); err == nil {
			stamp = fileStamp{modified: info.ModTime(), size: info.Size()}
			if system, ok := info.Sys().(*syscall.Stat_t); ok {
				stamp.inode, stamp.changed = system.Ino, system.Ctim
			}
		}
		stamps = append(stamps, stamp)
	}
	return stamps
}

func (f *tlsFiles) paths(names tlsNames) (paths []string) {
	if names.ca != "" {
		paths = append(paths, f.path(names.ca, ".pem"))
	}
	if names.certificate != "" {
		paths = append(paths, f.path(names.certificate, ".crt"), f.path(names.certificate, ".key"))
	}
	return paths
}

func (f *tlsFiles) path(name, ending string) string { return filepath.Join(f.dir, name+ending) }

func (f *tlsFiles) load(names tlsNames) (*material, error) {
	roots, err := f.loadRoots(names.ca)
	if err != nil {
		return nil, err
	}
	own, err := f.loadOwn(names.certificate)
	return &material{roots, own}, err
}

func (f *tlsFiles) loadRoots(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	if err := rules.ValidateFileName(name); err != nil {
		return nil, fmt.Errorf("tls_ca: %w", err)
	}
	path := f.path(name, ".pem")
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tls_ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls_ca: %s holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----", path)
	}
	return roots, nil
}

func (f *tlsFiles) loadOwn(name string) (*tls.Certificate, error) {
	if name == "" {
		return nil, nil
	}
	if err := rules.ValidateFileName(name); err != nil {
		return nil, fmt.Errorf("tls_certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(f.path(name, ".crt"), f.path(name, ".key"))
	if err != nil {
		return nil, fmt.Errorf("tls_certificate: %s and .key: %w", f.path(name, ".crt"), err)
	}
	return &pair, nil
}
