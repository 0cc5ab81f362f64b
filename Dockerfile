# docker build --build-arg VERSION="$(git describe --tags --always)" --build-arg REVISION="$(git rev-parse HEAD)" -t proxyd .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /proxyd ./cmd/proxyd

# docker build --target nft -t proxyd-nft . is the image of an init container that loads what `proxyd nft`
# prints (deploy/kubernetes/overlays/redirect). Not part of the image of proxyd.
FROM debian:trixie-slim AS nft
RUN apt-get update && apt-get install -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
COPY --from=build /proxyd /usr/bin/proxyd

# No shell, no libc: only the binary, and the roots that https upstreams are verified against.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /proxyd /usr/bin/proxyd
# From here on as in Dockerfile.release.
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="proxyd" \
      org.opencontainers.image.description="A local forward proxy for clients of crypto exchanges" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
USER 65534:65534
# Without a configuration proxyd listens on 127.0.0.1 inside the container: right for a sidecar that
# shares its network (a pod, --network container:…, --network host). To be reached through a published
# port it must listen on 0.0.0.0, and then it wants `allow` or `auth`: docs/operations.md.
EXPOSE 8877
HEALTHCHECK --interval=10s --timeout=3s --start-period=2s CMD ["/usr/bin/proxyd", "health"]
ENTRYPOINT ["/usr/bin/proxyd"]
CMD ["run"]
