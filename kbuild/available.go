package kbuild

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// Available says, for people, where Fetch with no version named would take the source from:
// the cache, the mirror, or the stand-in. It asks the mirror for one byte and fetches
// nothing. The error is a [*FetchError] if there is no source at all.
func Available(ctx context.Context, opts FetchOptions) (string, error) {
	f, err := newFetcher(opts)
	if err != nil {
		return "", err
	}
	if f.cached(DefaultVersion) != nil {
		return "linux " + DefaultVersion + " in the cache", nil
	}
	from := f.url(DefaultVersion, tarballName(DefaultVersion))
	resp, err := f.client.get(ctx, from, http.Header{"Range": {"bytes=0-0"}})
	if err == nil {
		resp.Body.Close() // nothing was to be read
		return from, nil
	}
	var out *unreachableError
	if errors.As(err, &out) {
		if _, statErr := os.Stat(f.StandIn); statErr == nil {
			return fmt.Sprintf("%s, since %s is out of reach", f.StandIn, f.base.Host), nil
		}
	}
	return "", &FetchError{Op: "reach", URL: from, Err: err}
}
