{{- define "modelwright.labels" -}}
app.kubernetes.io/name: modelwright-operator
app.kubernetes.io/part-of: modelwright
{{- end }}

{{- define "modelwright.selector" -}}
app.kubernetes.io/name: modelwright-operator
app.kubernetes.io/component: operator
{{- end }}

{{- define "modelwright.subject" -}}
- kind: ServiceAccount
  name: modelwright-operator
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "modelwright.settings" -}}
{{- $_ := required "settings.artifactRepository: where artifacts are pushed, like registry.example/modelwright" .Values.settings.artifactRepository -}}
{{- $_ := required "settings.images.optimizer is needed" .Values.settings.images.optimizer -}}
{{- $_ := required "settings.images.runtime is needed" .Values.settings.images.runtime -}}
{{- toYaml .Values.settings -}}
{{- end }}

{{- /* The name changes with the content, so a changed setting rolls the operator. */ -}}
{{- define "modelwright.settingsName" -}}
modelwright-settings-{{ include "modelwright.settings" . | sha256sum | trunc 10 }}
{{- end }}
