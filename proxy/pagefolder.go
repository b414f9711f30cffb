package proxy

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cutover/rules"
)

const (
	pagesEvery  = 5 * time.Second // between looks at the folder
	maxPage     = 64 << 10        // bytes of a page's file
	maxPages    = 1000            // entries of a folder, and pages in all
	maxRendered = 256 << 10       // bytes of a page
	defaultPage = "default.html"
)

// Pages has the pages that visitors get where Cutover itself answers: those of the operator's own, in a folder, or else the
// built-in one. Of HOST/STATUS.html, HOST/default.html, STATUS.html and default.html the first that is there is taken. The folder is
// looked at every few seconds, and never for a request: what a visitor sends leads to no file. A nil Pages has the built-in one.
type Pages struct {
	dir string
	log *slog.Logger
	now atomic.Pointer[pageShelf]

	looking sync.Mutex
	files   map[string]*pageFile // by path below dir
}

// PagesStatus says which pages of the operator's own there are, and which cannot be read.
type PagesStatus struct {
	Dir      string        `json:"dir"`               // empty: the built-in one alone
	Missing  bool          `json:"missing,omitempty"` // there is no such folder
	Pages    int           `json:"pages"`             // that are served
	Problems []PageProblem `json:"problems,omitempty"`
}

// PageProblem is a page, or a folder of pages, that cannot be read.
type PageProblem struct {
	File    string `json:"file"` // below the folder
	Problem string `json:"problem"`
	Serving bool   `json:"serving"` // the last good one serves
}

// pageKey says what a page is for.
type pageKey struct {
	host   string // in normal form; empty for all
	status int    // 0 for all
}

type pagePlace struct {
	path string // below the folder
	key  pageKey
}

type pageFile struct {
	pagePlace
	stamp   pageStamp          // of what was read last, good or not
	good    *template.Template // the last one that was; nil if none was
	problem error
}

// pageStamp tells whether a file has changed: its text, or who may read it.
type pageStamp struct {
	modified, changed, size int64
	inode                   uint64
}

// pageShelf is what requests see. It is immutable.
type pageShelf struct {
	pages  map[pageKey]*template.Template
	status PagesStatus
}

// OpenPages reads the pages in a folder; an empty dir means none, and so does one that is not there yet. What cannot be read is
// no error, but stands in Status. log may be nil.
func OpenPages(dir string, log *slog.Logger) *Pages {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Pages{dir: dir, log: log}
	p.look()
	return p
}

// Run looks for changes until ctx ends.
func (p *Pages) Run(ctx context.Context) error {
	ticker := time.NewTicker(pagesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.look()
		case <-ctx.Done():
			return nil
		}
	}
}

// Status says what was found at the last look.
func (p *Pages) Status() PagesStatus { return p.now.Load().status }

// find returns the page for an answer; nil where the operator has none.
func (p *Pages) find(host string, status int) *template.Template {
	if p == nil {
		return nil
	}
	shelf := p.now.Load()
	for _, key := range [...]pageKey{{host, status}, {host, 0}, {"", status}, {"", 0}} {
		if page := shelf.pages[key]; page != nil {
			return page
		}
	}
	return nil
}

// look reads what has changed.
func (p *Pages) look() {
	p.looking.Lock()
	defer p.looking.Unlock()
	shelf := &pageShelf{pages: map[pageKey]*template.Template{}, status: PagesStatus{Dir: p.dir}}
	files := map[string]*pageFile{}
	for _, place := range p.places(&shelf.status) {
		if len(files) == maxPages {
			shelf.status.wrong(place.path, fmt.Errorf("there are more than %d pages", maxPages), false)
			break
		}
		if file := p.read(place); file != nil {
			files[place.path] = file
			shelf.add(file)
		}
	}
	slices.SortFunc(shelf.status.Problems, func(a, b PageProblem) int { return strings.Compare(a.File, b.File) })
	p.files = files
	p.now.Store(shelf)
}

func (s *pageShelf) add(file *pageFile) {
	if file.good != nil {
		s.pages[file.key] = file.good
		s.status.Pages++
	}
	if file.problem != nil {
		s.status.wrong(file.path, file.problem, file.good != nil)
	}
}

func (s *PagesStatus) wrong(file string, err error, serving bool) {
	if len(s.Problems) < 100 {
		s.Problems = append(s.Problems, PageProblem{file, err.Error(), serving})
	}
}

// places lists the files that are to be pages, those for all hosts first.
func (p *Pages) places(status *PagesStatus) []pagePlace {
	if p.dir == "" {
		return nil
	}
	found, folders := p.list(".", status)
	for _, folder := range folders {
		if host, err := rules.NormalizeHost(folder); err != nil || host != folder {
			status.wrong(folder, errors.New("it is named after no host as rules have them, in lower case"), false)
			continue
		}
		inner, _ := p.list(folder, status)
		found = append(found, inner...)
	}
	return found
}

// list returns the pages and the folders in a folder. Where that cannot be read the pages are those it had.
func (p *Pages) list(folder string, status *PagesStatus) (found []pagePlace, folders []string) {
	entries, err := readFolder(filepath.Join(p.dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		status.Missing = status.Missing || folder == "."
		return nil, nil
	}
	if err != nil {
		status.wrong(folder, err, true)
		return p.knownIn(folder)
	}
	host := strings.TrimPrefix(folder, ".")
	for _, entry := range entries {
		place := pagePlace{path.Join(folder, entry.Name()), pageKey{host: host}}
		if isFolder(filepath.Join(p.dir, place.path), entry) {
			folders = append(folders, entry.Name())
		} else if place.key.status, err = statusOfPage(entry.Name()); err != nil {
			status.wrong(place.path, err, false)
		} else if strings.HasSuffix(entry.Name(), ".html") {
			found = append(found, place)
		}
	}
	return found, folders
}

// knownIn returns the pages that a folder had, and for the one of all hosts the folders in it.
func (p *Pages) knownIn(folder string) (found []pagePlace, folders []string) {
	for _, file := range p.files {
		switch {
		case path.Dir(file.path) == folder:
			found = append(found, file.pagePlace)
		case folder == "." && !slices.Contains(folders, file.key.host):
			folders = append(folders, file.key.host)
		}
	}
	return found, folders
}

// readFolder returns what is in a folder, sorted, but for what is hidden.
func readFolder(dir string) ([]fs.DirEntry, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }() // it was only read
	entries, err := folder.ReadDir(maxPages + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > maxPages {
		return nil, fmt.Errorf("there are more than %d entries in it", maxPages)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }), nil
}

func isFolder(file string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.IsDir()
	}
	info, err := os.Stat(file)
	return err == nil && info.IsDir()
}

// statusOfPage returns the status that a file's name says it is for, 0 for all. What is not called .html is no page.
func statusOfPage(name string) (int, error) {
	text, page := strings.CutSuffix(name, ".html")
	if !page || name == defaultPage {
		return 0, nil
	}
	status, err := strconv.Atoi(text)
	if err != nil || status < 400 || status > 599 || len(text) != 3 {
		return 0, errors.New("a page is called default.html, or by a status such as 502.html")
	}
	return status, nil
}

// read returns a page: as it was if it has not changed, with the last good one if it is bad now; nil if it is not there.
func (p *Pages) read(place pagePlace) *pageFile {
	old := p.files[place.path]
	name := filepath.Join(p.dir, place.path)
	fresh := &pageFile{pagePlace: place}
	fresh.stamp, fresh.problem = stampOf(name)
	switch {
	case errors.Is(fresh.problem, fs.ErrNotExist):
		return nil
	case fresh.problem != nil:
	case old != nil && old.problem == nil && old.stamp == fresh.stamp:
		return old
	default:
		fresh.good, fresh.problem = readPage(name, place.key.status)
	}
	if fresh.problem != nil && old != nil {
		fresh.good = old.good
	}
	p.tell(fresh, old)
	return fresh
}

// tell says in the log what is new about a page.
func (p *Pages) tell(fresh, old *pageFile) {
	switch {
	case fresh.problem == nil:
		if old != nil {
			p.log.Info("an error page was read anew", slog.String("file", fresh.path))
		}
	case old == nil || old.problem == nil || old.problem.Error() != fresh.problem.Error():
		p.log.Error("an error page cannot be read", slog.String("file", fresh.path), slog.Bool("the last good one serves", fresh.good != nil), slog.Any("error", fresh.problem))
	}
}

func stampOf(name string) (pageStamp, error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(name, &stat); err != nil {
		return pageStamp{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return pageStamp{stat.Mtim.Nano(), stat.Ctim.Nano(), stat.Size, stat.Ino}, nil
}

// readPage reads a page and shows it once: what would fail before a visitor fails here.
func readPage(name string, status int) (*template.Template, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	page, err := template.New(filepath.Base(name)).Parse(text)
	if err != nil {
		return nil, err
	}
	if status == 0 {
		status = http.StatusBadGateway
	}
	if _, err := show(page, Page{Status: status, Title: http.StatusText(status), RequestID: "0", RetryAfter: 1}); err != nil {
		return nil, err
	}
	return page, nil
}

// readSmall reads a file of maxPage bytes at most. A pipe must not keep it waiting.
func readSmall(name string) (string, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, errors.New("it is no file"))
	}
	text, err := io.ReadAll(io.LimitReader(file, maxPage+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxPage:
		return "", fmt.Errorf("it has more than %d KiB", maxPage>>10)
	case len(text) == 0:
		return "", errors.New("it is empty")
	}
	return string(text), nil
}
