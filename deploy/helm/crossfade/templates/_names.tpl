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
{{- define "crossfade.gates.selector" -}}
app: {{ .Values.gates.name }}
app.kubernetes.io/name: crossfade-gates
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "crossfade.gates.labels" -}}
{{ include "crossfade.gates.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
{{- /* Of rights that belong to no namespace: two releases may have the name of the Service in common. */ -}}
{{- define "crossfade.gates.role" -}}{{ printf "%s-gates" (include "crossfade.name" .) }}{{- end -}}
