{{- define "crossfade.name" -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- define "crossfade.account" -}}{{ .Values.serviceAccount.name | default (include "crossfade.name" .) }}{{- end -}}
{{- define "crossfade.selector" -}}
app.kubernetes.io/name: crossfade
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "crossfade.labels" -}}
{{ include "crossfade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
