{{- define "parts.labels" -}}
app: {{ .Chart.Name }}
domain: {{ .Values.global.domain }}
{{- end -}}
