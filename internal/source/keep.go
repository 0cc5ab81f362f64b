package source

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"proxyd/internal/config"
)

// Kept is the last good text of a list, as it is kept on disk and handed to the next
// process. It is meant for JSON.
type Kept struct {
	List         string    `json:"list"` // config.ListSource.Name
	From         string    `json:"from"` // what is shown of the URL
	URL          string    `json:"url"`  // a salted hash of all of it
	Fetched      time.Time `json:"fetched"`
	Success      time.Time `json:"success,omitzero"` // when it was last known to be the newest, if later
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Text         []byte    `json:"text,omitempty"` // on disk, what follows the first line
	Sum          []byte    `json:"sum,omitempty"`  // SHA-256 of Text, on disk alone
}

const saltSize = 16

// fingerprint returns a hash of the URL of a list with a salt. It is slow on purpose, as
// the URL may hold a short password.
func fingerprint(s *config.ListSource, salt []byte) string {
	const rounds = 1 << 15
	key, err := pbkdf2.Key(sha256.New, s.URL.Reveal(), salt, rounds, 16)
	if err != nil { // only where the build forbids such a short key
		return ""
	}
	return hex.EncodeToString(salt) + hex.EncodeToString(key)
}

func newFingerprint(s *config.ListSource) string {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	return fingerprint(s, salt)
}

// Of reports whether the text is of the list of s, and not of another URL.
func (k *Kept) Of(s *config.ListSource) bool {
	if k.List != s.Name || k.From != s.Shown || len(k.URL) <= 2*saltSize {
		return false
	}
	salt, err := hex.DecodeString(k.URL[:2*saltSize])
	return err == nil && subtle.ConstantTimeCompare([]byte(fingerprint(s, salt)), []byte(k.URL)) == 1
}

// maxHead bounds the first line of a kept list.
const maxHead = 16 << 10

// keptPath returns the file of a list. Its name has no part of the URL but a hash of what
// is shown of it.
func keptPath(s *config.ListSource) string {
	plain := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}
	sum := sha256.Sum256([]byte(s.Name + " " + s.Shown))
	return filepath.Join(s.Dir, "list-"+strings.Map(plain, s.Name)+"-"+hex.EncodeToString(sum[:4])+".txt")
}

// load reads the kept text of a list, nil if there is none of that URL.
func load(s *config.ListSource) *Kept {
	if s.Dir == "" {
		return nil
	}
	all, err := readOwn(keptPath(s))
	if err != nil {
		return nil
	}
	head, text, ok := bytes.Cut(all, []byte("\n"))
	k := &Kept{}
	if sum := sha256.Sum256(text); !ok || json.Unmarshal(head, k) != nil || !bytes.Equal(k.Sum, sum[:]) || !k.Of(s) {
		return nil
	}
	k.Text = text
	return k
}

// readOwn reads a file that only this user, the owner of its directory or root can have
// written.
func readOwn(path string) ([]byte, error) {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	named, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !named.Mode().IsRegular() || named.Size() > maxAnswer+maxHead || !trusted(named, dir) {
		return nil, errors.New("is not a file of this user's")
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	if opened, err := f.Stat(); err != nil || !os.SameFile(named, opened) {
		return nil, errors.New("is another file by now")
	}
	return io.ReadAll(io.LimitReader(f, maxAnswer+maxHead))
}

// OnDisk returns what is kept of a list, and when it came; nil if there is none.
func OnDisk(s *config.ListSource) (list *config.ListText, fetched time.Time) {
	if k := load(s); k != nil {
		list, _ = s.Read(k.Text) // config judges it
		return list, k.Fetched
	}
	return nil, time.Time{}
}

// save keeps a text for the next start. A file is replaced as a whole.
func save(s *config.ListSource, k Kept) error {
	text := k.Text
	sum := sha256.Sum256(text)
	k.Text, k.Sum = nil, sum[:]
	head, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if len(head) > maxHead {
		return errors.New("the answer's fields are too long")
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.Dir, ".list-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Join([][]byte{head, text}, []byte("\n")))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), keptPath(s))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone
	}
	return err
}
