{{/* An object's name: pm.name (dict "root" $ "name" "patient") */}}
{{- define "pm.name" -}}
{{ .root.Values.namePrefix }}{{ .name }}
{{- end }}

{{/* The labels that select a component's pods. They never change, because the selector of a Deployment is immutable. */}}
{{- define "pm.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "pm.labels" -}}
{{ include "pm.selector" . }}
app.kubernetes.io/part-of: patient-management
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ include "pm.tag" .root | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* Without version and chart, so that an upgrade does not replace pods that have not changed. */}}
{{- define "pm.podLabels" -}}
{{ include "pm.selector" . }}
app.kubernetes.io/part-of: patient-management
{{- end }}

{{- define "pm.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* pm.image (dict "root" $ "name" "patient") */}}
{{- define "pm.image" -}}
{{- with (index .root.Values.services .name).image -}}
{{ . }}
{{- else -}}
{{ with $.root.Values.image }}{{ with .registry }}{{ . }}/{{ end }}{{ .repository }}/{{ end }}{{ .name }}:{{ include "pm.tag" .root }}
{{- with (index .root.Values.services .name).digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end }}

{{/* A value as a string in quotes. Helm reads numbers as floats and would print 2592000 as 2.592e+06. */}}
{{- define "pm.text" -}}
{{ kindIs "string" . | ternary . (toJson .) | quote }}
{{- end }}

{{/* The name of the Secret with the services' own secrets. */}}
{{- define "pm.secret" -}}
{{ .Values.secrets.existingSecret | default (include "pm.name" (dict "root" . "name" "patient-management")) }}
{{- end }}

{{/*
What Pod Security "restricted" requires of a pod, then of a container. The user is that of services/Dockerfile, and no user
of a node: nodes have none above 10000.
*/}}
{{- define "pm.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Without this a large volume is walked at every start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "pm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ not .writable }}
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where any pod may run, how urgent it is, and who lets it pull its image. */}}
{{- define "pm.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The placement of a component's pods, spread over nodes and zones. */}}
{{- define "pm.scheduling" -}}
{{- include "pm.placement" .root }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    # Of this rollout's pods alone, or those that are about to go would count.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels: {{- include "pm.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* The labels and annotations of a Job's pods: pm.jobMetadata (dict "root" $ "name" "doctor" "kafka" true) */}}
{{- define "pm.jobMetadata" -}}
labels:
  {{- include "pm.podLabels" . | nindent 2 }}
  patient-management/uses-postgres: "true"
  {{- if .kafka }}
  patient-management/uses-kafka: "true"
  {{- end }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pod of a Job, without its containers: pm.jobPod (dict "root" $ "name" "audit-anchor" "restart" "Never") */}}
{{- define "pm.jobPod" -}}
serviceAccountName: {{ include "pm.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: {{ .restart | default "OnFailure" }}
securityContext: {{- include "pm.podSecurity" . | nindent 2 }}
{{- include "pm.placement" .root }}
{{- end }}

{{/* The volume with Postgres' CA and the password of a role: pm.databaseVolume (dict "root" $ "role" "patient-owner") */}}
{{- define "pm.databaseVolume" -}}
- name: database
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .root.Values.postgres.caSecret.name }}
          items: [{key: {{ .root.Values.postgres.caSecret.key | quote }}, path: ca.crt}]
      - secret:
          name: {{ .root.Values.postgres.passwordSecretPrefix }}{{ .role }}
          items: [{key: password, path: password}]
{{- end }}

{{/*
The volume with Kafka's CA and a service's certificate, then the volume with the service's secrets:
pm.kafkaVolume (dict "root" $ "name" "patient")
*/}}
{{- define "pm.kafkaVolume" -}}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .root.Values.kafka.caSecret.name }}
          items: [{key: {{ .root.Values.kafka.caSecret.key | quote }}, path: ca.crt}]
      - secret:
          name: {{ .root.Values.kafka.userSecretPrefix }}{{ .name }}
          {{- with .root.Values.kafka.userKeys }}
          items: [{key: {{ .certificate | quote }}, path: user.crt}, {key: {{ .key | quote }}, path: user.key}]
          {{- end }}
{{- end }}

{{/* The ports of the brokers, for a NetworkPolicy */}}
{{- define "pm.kafkaPorts" -}}
{{- $ports := list }}
{{- range .Values.kafka.brokers }}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) }}
{{- end }}
{{- range uniq $ports }}
- port: {{ . }}
{{- end }}
{{- end }}

{{- define "pm.secretsVolume" -}}
- name: secrets
  secret:
    secretName: {{ include "pm.secret" .root }}
    defaultMode: 0440
    # Only what this service needs of it.
    items:
      {{- range values (index .root.Values.services .name).secrets | sortAlpha }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}

{{/*
What the spans of a pod say of it, by the downward API: pm.resourceAttributes (dict "root" $ "name" "patient"). A pod that
is of no Deployment has another `owner`, such as `k8s.job.name=patient-migrate`.
*/}}
{{- define "pm.resourceAttributes" -}}
{{- range $variable, $path := dict "K8S_POD_NAME" "metadata.name" "K8S_POD_UID" "metadata.uid" "K8S_NODE_NAME" "spec.nodeName" }}
- name: {{ $variable }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
# Kubernetes replaces $(NAME) by the variables above it.
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ printf "service.namespace=patient-management,service.version=%s,sampling.mode=%s,k8s.namespace.name=%s,%s,k8s.container.name=%s,k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.node.name=$(K8S_NODE_NAME)" (include "pm.tag" .root) .root.Values.telemetry.sampling .root.Release.Namespace (.owner | default (printf "k8s.deployment.name=%s" (include "pm.name" .))) .name }}
{{- end }}

{{/*
The environment by which a Job sends spans: pm.jobTelemetry (dict "root" $ "name" "migrate" "owner" "k8s.job.name=patient-migrate"),
with the name of its container. Empty if telemetry is off.
*/}}
{{- define "pm.jobTelemetry" -}}
{{- with .root.Values.telemetry }}
{{- if .enabled }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: http://{{ .collectorHost }}:{{ .collectorPort }}
{{ include "pm.resourceAttributes" $ | trim }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a NetworkPolicy allows to whom sends spans. Empty if telemetry is off. */}}
{{- define "pm.collectorEgress" -}}
{{- if .Values.telemetry.enabled }}
- ports:
    - port: {{ .Values.telemetry.collectorPort }}
  {{- with .Values.networkPolicy.collector }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* postgres://patient@host:5432/patient */}}
{{- define "pm.databaseUrl" -}}
postgres://{{ .role }}@{{ get .root.Values.postgres.hosts .name | default .root.Values.postgres.host }}:{{ .root.Values.postgres.port }}/{{ .name }}
{{- end }}

{{/*
Envoy's configuration: services/gateway/envoy.yaml with its placeholders replaced. It fails if a placeholder is left.
Envoy uses the headless Services, so that it sees every pod and checks each by itself.
*/}}
{{- define "pm.envoy" -}}
{{- $root := . -}}
{{- $settings := dict
  "ADDRESS" "0.0.0.0"
  "PORT" 4004
  "HEALTH_PORT" 4003
  "ADMIN_ADDRESS" "127.0.0.1"
  "ADMIN_PORT" 9901
  "AUTH_ISSUER" .Values.publicUrl
  "AUTH_AUDIENCE" .Values.audience
  "TRUSTED_HOPS" .Values.gateway.trustedHops
  "LOGIN_RATE_PER_SECOND" .Values.gateway.loginRatePerSecond
  "SIGNUP_RATE_PER_SECOND" .Values.gateway.signupRatePerSecond
  "REFRESH_RATE_PER_SECOND" .Values.gateway.refreshRatePerSecond
  "HSTS" ""
  "JWKS_CACHE_SECONDS" .Values.gateway.jwksCacheSeconds
  "DRAIN_SECONDS" .Values.gateway.drainSeconds
  "COLLECTOR_HOST" "127.0.0.1"
  "COLLECTOR_PORT" .Values.telemetry.collectorPort
  "TRACING" (.Values.telemetry.enabled | ternary "on" "off")
  "TRACES_PER_MILLION" 0
  "TRUST_TRACEPARENT" .Values.telemetry.trustTraceparent
-}}
{{- with .Values.telemetry -}}
{{- if .enabled -}}
{{- $_ := set $settings "COLLECTOR_HOST" .collectorHost -}}
{{- $_ := set $settings "TRACES_PER_MILLION" (eq .sampling "tail" | ternary 1000000 (mulf .headPercent 10000 | int)) -}}
{{- end -}}
{{- end -}}
{{- if and (hasPrefix "https://" .Values.publicUrl) .Values.gateway.hstsSeconds -}}
{{- $_ := set $settings "HSTS" (printf "max-age=%d; includeSubDomains" (int64 .Values.gateway.hstsSeconds)) -}}
{{- end -}}
{{- $origins := list -}}
{{- range .Values.gateway.corsOrigins -}}
{{- $origins = append $origins (dict "exact" .) -}}
{{- end -}}
{{- $_ := set $settings "CORS_ORIGINS" (toJson $origins) -}}
{{- range $name, $service := .Values.services -}}
{{- $_ := set $settings (printf "%s_HOST" (upper $name)) (printf "%s-headless.%s.svc" (include "pm.name" (dict "root" $root "name" $name)) $root.Release.Namespace) -}}
{{- $_ := set $settings (printf "%s_PORT" (upper $name)) $service.port -}}
{{- end -}}
{{- $text := .Files.Get "files/envoy.yaml" | required "files/envoy.yaml is missing: it is a link to services/gateway/envoy.yaml" -}}
{{- range $name, $value := $settings -}}
{{- $text = $text | replace (printf "${%s}" $name) (toString $value) -}}
{{- end -}}
{{- with regexFind "\\$\\{[A-Z][A-Z0-9_]*\\}" $text -}}
{{- fail (printf "services/gateway/envoy.yaml has the placeholder %s, for which pm.envoy has no value" .) -}}
{{- end -}}
{{ $text }}
{{- end }}
