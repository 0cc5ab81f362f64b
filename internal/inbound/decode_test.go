package inbound

import (
	"bufio"
	"io"
	"net/http"
	"strings"
)

// decodeChunked decodes a chunked body as net/http does.
func decodeChunked(r io.Reader) ([]byte, error) {
	head := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), oneByte{r})))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(req.Body)
}
