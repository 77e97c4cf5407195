{{/* Labels of every object; the component stands beside them. */}}
{{- define "envprov.labels" -}}
app.kubernetes.io/name: envprov
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "envprov.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What is given, and over it what the pods below rely on. */}}
{{- define "envprov.settings" -}}
{{- $own := dict
  "webhook" (dict "host" "0.0.0.0" "port" 8080 "token_files" (list "/etc/envprov/webhook") "signing_token_files" (list "/etc/envprov/signing"))
  "controller" (dict "host" "0.0.0.0" "port" 8081)
  "gitlab" (dict "token_file" "/etc/envprov/gitlab/token")
-}}
{{- mustMergeOverwrite (deepCopy .Values.settings) $own | toYaml }}
{{- end }}

{{/* Metadata of pods, without their component. */}}
{{- define "envprov.podMetadata" -}}
annotations:
  checksum/settings: {{ include "envprov.settings" . | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  app.kubernetes.io/name: envprov
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where pods run, and as whom. */}}
{{- define "envprov.pod" -}}
automountServiceAccountToken: true
enableServiceLinks: false  # the variables of Services would begin with ENVPROV_ too
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Of a container, what does not depend on its component. */}}
{{- define "envprov.container" -}}
image: {{ include "envprov.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "envprov.env" -}}
- name: ENVPROV_SETTINGS
  value: /etc/envprov/settings.yaml
- name: ENVPROV_PLATFORM__CONTROL_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}

{{- define "envprov.mounts" -}}
- name: settings
  mountPath: /etc/envprov/settings.yaml
  subPath: settings.yaml
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "envprov.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    - ipBlock:
        cidr: 169.254.20.10/32  # NodeLocal DNS, which no selector matches
{{- end }}

{{- define "envprov.https" -}}
- ports:
    - port: 443
      protocol: TCP
    - port: 6443
      protocol: TCP
{{- end }}
