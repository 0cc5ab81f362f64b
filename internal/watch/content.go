package watch

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxHashed is how much of a file is compared; of what is longer, the start and
// the size.
const maxHashed = 16 << 20

// fingerprint is what a path holds, or why it cannot be read.
type fingerprint struct {
	state string // "" for a file that was read
	size  int64
	sum   [sha256.Size]byte
}

// fingerprintOf reads a file, in pieces as large as buf. What is no regular file
// is not opened: a pipe would block, a device may do things.
func fingerprintOf(path string, buf []byte) fingerprint {
	info, err := os.Stat(path)
	if err != nil {
		return unread(err)
	}
	if !info.Mode().IsRegular() {
		return fingerprint{state: info.Mode().Type().String()}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have become a pipe since
	if err != nil {
		return unread(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		return fingerprint{state: "unreadable"}
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, io.LimitReader(f, maxHashed), buf)
	if err != nil {
		return unread(err)
	}
	p := fingerprint{size: max(n, info.Size())}
	hash.Sum(p.sum[:0])
	return p
}

// noDescriptor is the state of a file of which nothing is known for now.
const noDescriptor = "no descriptor"

func unread(err error) fingerprint {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fingerprint{state: "missing"}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fingerprint{state: noDescriptor}
	}
	return fingerprint{state: "unreadable"}
}
