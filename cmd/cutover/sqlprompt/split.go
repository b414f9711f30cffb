package sqlprompt

import "strings"

// splitter finds where statements end: at a semicolon that is in no quotes and no comment, and that does not belong to the
// body of a trigger. Text is fed to it line by line. The zero splitter is ready.
type splitter struct {
	text  strings.Builder // of the statement so far
	in    byte            // what the text is in: 0, a closing quote, lineComment or blockComment
	word  []byte          // that is being read
	stage stage
	holds bool // more than white space and comments
}

const (
	lineComment  = '-'
	blockComment = '*'
)

// stage is how much of CREATE TRIGGER … BEGIN … ; END has been seen.
type stage uint8

const (
	atStart stage = iota
	within        // a statement that ends at the next semicolon
	afterExplain
	afterCreate
	inTrigger
	afterSemicolon // of a statement in a trigger
	afterEnd       // that follows such a semicolon
)

// feed adds a line with its end, and returns the statements that are whole now, with their semicolons.
func (s *splitter) feed(line string) (whole []string) {
	for i := 0; i < len(line); i++ {
		c := line[i]
		s.text.WriteByte(c)
		if s.in != 0 {
			i += s.skip(line, i)
			continue
		}
		if isWord(c) {
			s.word = append(s.word, c)
			s.holds = true
			continue
		}
		s.endWord()
		switch next := following(line, i); {
		case c == '-' && next == '-':
			s.in = lineComment
		case c == '/' && next == '*':
			s.in = blockComment
			s.text.WriteByte(next)
			i++
		case c == ';':
			if s.semicolon() {
				whole = append(whole, s.take()...)
			}
		case strings.IndexByte(" \t\r\n\f", c) < 0:
			s.open(c)
		}
	}
	s.endWord()
	return whole
}

func following(line string, i int) byte {
	if i+1 < len(line) {
		return line[i+1]
	}
	return 0
}

// skip goes on in quotes or a comment, and returns how many bytes more than one it took.
func (s *splitter) skip(line string, i int) int {
	switch s.in {
	case lineComment:
		if line[i] == '\n' {
			s.in = 0
		}
	case blockComment:
		if line[i] == '*' && following(line, i) == '/' {
			s.text.WriteByte('/')
			s.in = 0
			return 1
		}
	case line[i]: // a doubled quote opens again at once
		s.in = 0
	}
	return 0
}

// open notes a character that is no word; a quote begins a text.
func (s *splitter) open(c byte) {
	s.holds = true
	s.token("")
	switch c {
	case '\'', '"', '`':
		s.in = c
	case '[':
		s.in = ']'
	}
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

func (s *splitter) endWord() {
	if len(s.word) > 0 {
		s.token(strings.ToLower(string(s.word)))
		s.word = s.word[:0]
	}
}

// token moves on by a word, or by a token of another kind, "".
func (s *splitter) token(word string) {
	switch s.stage {
	case atStart, afterExplain:
		s.stage = firstStage(word, s.stage)
	case afterCreate:
		switch word {
		case "temp", "temporary":
		case "trigger":
			s.stage = inTrigger
		default:
			s.stage = within
		}
	case afterSemicolon:
		s.stage = inTrigger
		if word == "end" {
			s.stage = afterEnd
		}
	case afterEnd:
		s.stage = inTrigger
	}
}

func firstStage(word string, now stage) stage {
	switch {
	case word == "create":
		return afterCreate
	case word == "explain":
		return afterExplain
	case now == afterExplain && (word == "query" || word == "plan"):
		return afterExplain
	}
	return within
}

// semicolon reports whether the statement ends here.
func (s *splitter) semicolon() bool {
	if s.stage == inTrigger || s.stage == afterSemicolon {
		s.stage = afterSemicolon
		return false
	}
	return true
}

// take returns the statement so far, if it holds anything, and begins the next one.
func (s *splitter) take() []string {
	text, holds := strings.TrimSpace(s.text.String()), s.holds
	*s = splitter{}
	if !holds {
		return nil
	}
	return []string{text}
}

// empty reports whether nothing waits for its end.
func (s *splitter) empty() bool { return !s.holds && s.in != blockComment }
