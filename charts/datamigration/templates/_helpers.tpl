{{- define "datamigration.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}
{{- define "datamigration.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}
{{- define "datamigration.selector" -}}
app.kubernetes.io/name: datamigration
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "datamigration.labels" -}}
{{ include "datamigration.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
