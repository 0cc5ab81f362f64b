// Package manifests tests what is below deploy/ for Kubernetes and compose, with the
// tools and schemas that these come with: kustomize, the schemas of the Kubernetes
// API, the CRD of the PodMonitor, and compose's own loader. deploy/check.sh runs it.
package manifests
