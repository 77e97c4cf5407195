{{/*
A name that is free to be a Service, a Deployment and a label: RFC 1035, at most `limit` characters.
RELEASE-PART as it is where that fits; else its readable beginning and eight characters of a hash over
all of it, so that two long names that begin alike stay two.
Called with: (dict "root" $ "part" "web" "limit" 63)
*/}}
{{- define "environment.name" -}}
{{- $full := .root.Release.Name -}}
{{- if .part -}}
{{- $full = printf "%s-%s" $full .part -}}
{{- end -}}
{{- if and (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) (le (len $full) (int .limit)) -}}
{{- $full -}}
{{- else -}}
{{- $readable := regexReplaceAll "[^a-z0-9]+" $full "-" -}}
{{- if not (regexMatch "^[a-z]" $readable) -}}
{{- $readable = printf "e-%s" $readable -}}
{{- end -}}
{{- printf "%s-%s" ($readable | trunc (int (sub .limit 9)) | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* The labels that find the pods of a component. Never a branch: it may hold anything. */}}
{{- define "environment.selector" -}}
app.kubernetes.io/name: {{ .part | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end -}}

{{- define "environment.labels" -}}
{{- if .part -}}
{{ include "environment.selector" . }}
{{- else -}}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* The branch in full; an annotation takes any text. */}}
{{- define "environment.annotations" -}}
{{- with .root.Values.envprov.branch -}}
envprov.io/branch: {{ . | quote }}
{{- end -}}
{{- end -}}

{{- define "environment.host" -}}
{{- .Values.host | default .Values.envprov.host -}}
{{- end -}}

{{- define "environment.serviceAccount" -}}
{{- if .root.Values.serviceAccount.create -}}
{{- include "environment.name" (dict "root" .root "part" "" "limit" 63) -}}
{{- else -}}
{{- .root.Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The ports of a component as a map by name; `port: 8080` is short for `ports: {main: 8080}`. */}}
{{- define "environment.ports" -}}
{{- if .port }}{{ dict "main" (int .port) | toJson }}{{ else }}{{ .ports | default dict | toJson }}{{ end -}}
{{- end -}}

{{/* The port that a probe and the Ingress mean if none is named. */}}
{{- define "environment.mainPort" -}}
{{- $ports := include "environment.ports" . | fromJson -}}
{{- $main := "" -}}
{{- range $wanted := list "main" "http" -}}
{{- if and (not $main) (hasKey $ports $wanted) }}{{ $main = $wanted }}{{ end -}}
{{- end -}}
{{- $main | default (keys $ports | sortAlpha | first) -}}
{{- end -}}

{{- define "environment.image" -}}
{{- .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Text that Kubernetes takes as it is: it would read $(NAME) in the value of a variable as a reference. */}}
{{- define "environment.literal" -}}
{{- . | default "" | toString | replace "$" "$$" | quote -}}
{{- end -}}

{{/* A value of `env` as text: whole numbers without exponent, which 1000000 would get otherwise. */}}
{{- define "environment.text" -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ printf "%.0f" . | quote }}{{ else }}{{ . | toString | quote }}{{ end -}}
{{- else -}}
{{- . | toString | quote -}}
{{- end -}}
{{- end -}}

{{/* One map over another, whole values at a time: `merge` would mix two sources of one variable, and lose "" and false. */}}
{{- define "environment.overlay" -}}
{{- $all := dict -}}
{{- range list .under .over -}}
{{- range $name, $value := . -}}
{{- $_ := set $all $name $value -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/*
The variables of a container, in an order in which the later can refer to the earlier as $(NAME): what envprov
says, where the other components are, what comes from Secrets and ConfigMaps, plain text.
Called with: (dict "root" $ "env" {...} "revision" true)
*/}}
{{- define "environment.env" -}}
{{- $envprov := .root.Values.envprov -}}
- name: ENVPROV_PROJECT
  value: {{ include "environment.literal" $envprov.project }}
- name: ENVPROV_BRANCH
  value: {{ include "environment.literal" $envprov.branch }}
- name: ENVPROV_SLUG
  value: {{ include "environment.literal" $envprov.slug }}
{{- if .revision }}
- name: ENVPROV_REVISION
  value: {{ include "environment.literal" $envprov.revision }}
{{- end }}
- name: ENVPROV_HOST
  value: {{ include "environment.literal" (include "environment.host" .root) }}
- name: ENVPROV_URL
  value: {{ include "environment.literal" $envprov.url }}
{{- range $name, $component := .root.Values.components }}
{{- if eq (include "environment.hasService" $component) "true" }}
- name: ENVPROV_SERVICE_{{ $name | upper | replace "-" "_" }}
  value: {{ include "environment.name" (dict "root" $.root "part" $name "limit" 63) | quote }}
{{- end }}
{{- end }}
{{- $env := include "environment.overlay" (dict "over" .env "under" .root.Values.env) | fromJson -}}
{{- range $name, $value := $env }}
{{- if kindIs "map" $value }}
- name: {{ $name | quote }}
  {{- toYaml $value | nindent 2 }}
{{- end }}
{{- end }}
{{- range $name, $value := $env }}
{{- if not (kindIs "map" $value) }}
- name: {{ $name | quote }}
  value: {{ include "environment.text" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "environment.hasService" -}}
{{- if and (or .port .ports) (ne (dig "service" "enabled" true .) false) }}true{{ else }}false{{ end -}}
{{- end -}}

{{/* A probe in Kubernetes' own form; `http: /healthz` is short for httpGet on the main port. */}}
{{- define "environment.probe" -}}
{{- $probe := omit .probe "http" "port" -}}
{{- if .probe.http -}}
{{- $port := .probe.port | default (include "environment.mainPort" .component) -}}
{{- if kindIs "float64" $port }}{{ $port = int $port }}{{ end -}}
{{- $probe = merge (dict "httpGet" (dict "path" .probe.http "port" $port)) $probe -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{- define "environment.podSecurity" -}}
runAsNonRoot: {{ dig "runAsNonRoot" true . }}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- if hasKey $ $key }}
{{ $key }}: {{ get $ $key | int64 }}
{{- end }}
{{- end }}
{{- if hasKey . "fsGroup" }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "environment.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ dig "readOnlyRootFilesystem" false . }}
capabilities:
  drop: [ALL]
{{- with .addCapabilities }}
  add:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{/* What is the same in the pods of components and of jobs. */}}
{{- define "environment.pod" -}}
serviceAccountName: {{ include "environment.serviceAccount" . | quote }}
automountServiceAccountToken: {{ .root.Values.serviceAccount.automountToken }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "environment.podSecurity" .security | nindent 2 }}
{{- end -}}

{{/* What is the same in the containers of components and of jobs. `of`: a component, or a job completed from one. */}}
{{- define "environment.container" -}}
image: {{ include "environment.image" .of.image | quote }}
{{- with .of.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with .of.command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- include "environment.env" (dict "root" .root "env" (.of.env | default dict) "revision" .revision) | nindent 2 }}
{{- with .of.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "environment.containerSecurity" (.of.securityContext | default dict) | nindent 2 }}
{{- end -}}

{{/* Names of volumes and of keys in the ConfigMap, made from a path. */}}
{{- define "environment.pathKey" -}}
{{- sha256sum . | trunc 8 -}}
{{- end -}}

{{- define "environment.scratchMounts" -}}
{{- $mounts := list -}}
{{- range $path, $_ := . -}}
{{- $mounts = append $mounts (dict "name" (printf "scratch-%s" (include "environment.pathKey" $path)) "mountPath" $path) -}}
{{- end -}}
{{- toYaml $mounts -}}
{{- end -}}

{{- define "environment.scratchVolumes" -}}
{{- $volumes := list -}}
{{- range $path, $options := . -}}
{{- $volumes = append $volumes (dict "name" (printf "scratch-%s" (include "environment.pathKey" $path)) "emptyDir" $options) -}}
{{- end -}}
{{- toYaml $volumes -}}
{{- end -}}

{{/*
What a schema cannot say, all findings at once.
*/}}
{{- define "environment.check" -}}
{{- $findings := list -}}
{{- $paths := dict -}}
{{- $root := . -}}
{{- range $name, $component := .Values.components -}}
{{- $ports := include "environment.ports" $component | fromJson -}}
{{- range $kind, $probe := $component.probes -}}
{{- if and $probe.http (not $probe.port) (not $ports) -}}
{{- $findings = append $findings (printf "components.%s.probes.%s: \"http\" needs a port; set components.%s.port" $name $kind $name) -}}
{{- end -}}
{{- $target := $probe.port | default (dig "httpGet" "port" "" $probe) | default (dig "tcpSocket" "port" "" $probe) -}}
{{- if and (kindIs "string" $target) $target (not (hasKey $ports $target)) -}}
{{- $findings = append $findings (printf "components.%s.probes.%s: port %q is none of its ports (%s)" $name $kind $target (keys $ports | sortAlpha | join ", " | default "it has none")) -}}
{{- end -}}
{{- end -}}
{{- if and $component.paths (ne (include "environment.hasService" $component) "true") -}}
{{- $findings = append $findings (printf "components.%s.paths: they need a port and a service; set components.%s.port" $name $name) -}}
{{- end -}}
{{- range $path := $component.paths -}}
{{- if hasKey $paths $path -}}
{{- $findings = append $findings (printf "components.%s.paths: %s is also a path of components.%s" $name $path (get $paths $path)) -}}
{{- end -}}
{{- $_ := set $paths $path $name -}}
{{- end -}}
{{- $mounts := concat (keys ($component.emptyDirs | default dict)) (keys ($component.files | default dict)) -}}
{{- with $component.volume -}}
{{- if has .mountPath $mounts -}}
{{- $findings = append $findings (printf "components.%s.volume.mountPath: %s is also in emptyDirs or files" $name .mountPath) -}}
{{- end -}}
{{- end -}}
{{- range $path := keys ($component.files | default dict) -}}
{{- if hasKey ($component.emptyDirs | default dict) $path -}}
{{- $findings = append $findings (printf "components.%s.files: %s is also in emptyDirs" $name $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $job := .Values.jobs -}}
{{- if hasKey $root.Values.components $name -}}
{{- $findings = append $findings (printf "jobs.%s: there is a component of this name, whose Service would find the pods of the job" $name) -}}
{{- end -}}
{{- if and $job.component (not (hasKey $root.Values.components $job.component)) -}}
{{- $findings = append $findings (printf "jobs.%s.component: there is no component %q" $name $job.component) -}}
{{- else if not (or $job.component $job.image) -}}
{{- $findings = append $findings (printf "jobs.%s: set \"image\", or \"component\" to run the image of a component" $name) -}}
{{- end -}}
{{- if and $root.Values.serviceAccount.create (contains "pre-install" $job.when) -}}
{{- $findings = append $findings (printf "jobs.%s.when: pre-install comes before the ServiceAccount that serviceAccount.create makes; use post-install" $name) -}}
{{- end -}}
{{- end -}}
{{- if $findings -}}
{{- fail (printf "\n\nThe values do not fit together:\n  - %s\n" ($findings | join "\n  - ")) -}}
{{- end -}}
{{- end -}}
