{{/* The name of all objects: that of the release, followed by `-embedd` unless it contains this. */}}
{{- define "embedd.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels that select this release's pods. */}}
{{- define "embedd.selector" -}}
app.kubernetes.io/name: embedd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "embedd.labels" -}}
{{ include "embedd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "embedd.serviceAccount" -}}
{{- default (include "embedd.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "embedd.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* A value as text. Helm reads numbers as floats, which would print large ones with an exponent. */}}
{{- define "embedd.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* Fails if a listener has another port than the container, the Services and the probes. */}}
{{- define "embedd.ports" -}}
{{- range $name, $port := dict "EMBEDD_LISTEN" "50051" "EMBEDD_HTTP_LISTEN" "9090" "EMBEDD_HEALTH_LISTEN" "50053" }}
{{- $value := default "" (get $.Values.settings $name) }}
{{- $default := and (ne $name "EMBEDD_HEALTH_LISTEN") (has $value (list "" "off")) }}
{{- if not (or $default (hasSuffix (printf ":%s" $port) $value)) }}
{{- fail (printf "settings.%s must have port %s" $name $port) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fails if the device is set in two places. */}}
{{- define "embedd.device" -}}
{{- if hasPrefix "cuda" (toString (default "" .Values.settings.EMBEDD_DEVICE)) }}
{{- fail "use gpu.enabled instead of settings.EMBEDD_DEVICE" }}
{{- else if and .Values.gpu.enabled .Values.settings.EMBEDD_DEVICE }}
{{- fail "settings.EMBEDD_DEVICE contradicts gpu.enabled" }}
{{- end }}
{{- end -}}

{{/* The resources of the container. */}}
{{- define "embedd.resources" -}}
{{- if .Values.gpu.enabled -}}
{{- toYaml (merge (dict "limits" (dict "nvidia.com/gpu" "1")) .Values.resources) -}}
{{- else -}}
{{- toYaml .Values.resources -}}
{{- end -}}
{{- end -}}

{{- define "embedd.nodeSelector" -}}
{{- $ofGpu := dict -}}
{{- if .Values.gpu.enabled -}}
{{- $ofGpu = dict "nvidia.com/gpu.present" "true" -}}
{{- end -}}
{{- with merge (dict) .Values.nodeSelector $ofGpu -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "embedd.tolerations" -}}
{{- $ofGpu := list -}}
{{- if .Values.gpu.enabled -}}
{{- $ofGpu = list (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with concat $ofGpu .Values.tolerations -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* All settings: those of the values, and those that the GPU and the Secrets require. */}}
{{- define "embedd.settings" -}}
{{- include "embedd.ports" . }}
{{- include "embedd.device" . }}
{{- range $name, $value := .Values.settings }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }}: {{ include "embedd.text" $value | quote }}
{{- end }}
{{- end }}
{{- if .Values.gpu.enabled }}
EMBEDD_DEVICE: cuda
{{- end }}
{{- if .Values.tokens.existingSecret }}
EMBEDD_TOKEN_FILE: {{ printf "/etc/embedd/tokens/%s" .Values.tokens.key | quote }}
{{- end }}
{{- if .Values.tls.existingSecret }}
EMBEDD_TLS_CERTIFICATE: /etc/embedd/tls/tls.crt
EMBEDD_TLS_KEY: /etc/embedd/tls/tls.key
{{- if .Values.tls.clientCertificates }}
EMBEDD_TLS_CLIENT_CA: /etc/embedd/tls/ca.crt
{{- end }}
{{- else if .Values.tls.clientCertificates }}
{{- fail "tls.clientCertificates needs tls.existingSecret" }}
{{- end }}
{{- end -}}
