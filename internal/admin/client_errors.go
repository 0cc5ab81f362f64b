package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"syscall"
)

// unreachable drops what net/http says around the cause.
func (c *Client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; run this as the user that proxyd runs as", err)
	}
	refused := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
	return &UnreachableError{Address: c.address, Refused: refused, Err: err}
}
