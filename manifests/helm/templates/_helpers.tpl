{{- /* The name of the objects. Only the ServiceAccount and the Lease have names of their own. */ -}}
{{- define "policy-baseline.name" -}}
{{- .Values.name -}}
{{- end -}}

{{- define "policy-baseline.serviceAccount" -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}

{{- /* The user of the operator, as the admission components compare it. */ -}}
{{- define "policy-baseline.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "policy-baseline.serviceAccount" . }}
{{- end -}}

{{- /* A value as a constant of CEL, with spaces as in the manifests. */ -}}
{{- define "policy-baseline.cel" -}}
{{- if kindIs "slice" . -}}
[{{ range $at, $entry := . }}{{ if $at }}, {{ end }}{{ toJson $entry }}{{ end }}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{- /* No baseline closes the namespace of the operator. So it must not be one that workloads use. */ -}}
{{- define "policy-baseline.checkNamespace" -}}
{{- if eq .Release.Namespace "default" -}}
{{- fail "no baseline closes the namespace of the operator, so install it in a namespace of its own: --namespace policy-baseline-system --create-namespace" -}}
{{- end -}}
{{- end -}}
