{{- define "steppe.name" -}}
{{- if contains "steppe" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-steppe" (.Release.Name | trunc 33 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- /* Labels that select pods: KubeRay sets those of app.kubernetes.io/name itself. */ -}}
{{- define "steppe.selector" -}}
steppe-release: {{ include "steppe.name" . }}
{{- end -}}

{{- define "steppe.labels" -}}
{{ include "steppe.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: steppe
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* KubeRay sets app.kubernetes.io/name of its pods, and selects by it. */ -}}
{{- define "steppe.objectLabels" -}}
{{ include "steppe.labels" . }}
app.kubernetes.io/name: steppe
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "steppe.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "steppe.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- /* The run configuration, with what the chart knows better. */ -}}
{{- define "steppe.run" -}}
{{- $run := deepCopy .Values.run -}}
{{- $ray := default dict $run.ray -}}
{{- if and $ray.address (ne $ray.address "auto") -}}
{{- fail (printf "run.ray.address: asked for nothing or auto, the cluster of this chart; found %s" $ray.address) -}}
{{- end -}}
{{- $_ := set $run "ray" (merge (dict "address" "auto") $ray) -}}
{{- $_ := set $run "gateway" (merge (dict "host" "0.0.0.0") (default dict $run.gateway)) -}}
{{- with $run.sites -}}
{{- $_ := set $run "sites" (merge (dict "host" "0.0.0.0") .) -}}
{{- end -}}
{{- toYaml $run -}}
{{- end -}}

{{- define "steppe.port" -}}
{{- (default dict .Values.run.gateway).port | default 8000 | int -}}
{{- end -}}

{{- define "steppe.sitesPort" -}}
{{- .Values.run.sites.port | default 8443 | int -}}
{{- end -}}

{{- define "steppe.scheme" -}}
{{- ternary "https" "http" (hasKey (default dict .Values.run.gateway) "tls_certificate") -}}
{{- end -}}

{{- define "steppe.drainS" -}}
{{- $gateway := default dict .Values.run.gateway -}}
{{- ternary $gateway.drain_s 5 (hasKey $gateway "drain_s") -}}
{{- end -}}

{{- /* preStop, the drain, the end of the run. */ -}}
{{- define "steppe.graceS" -}}
{{- add .Values.driver.preStopS (ceil (include "steppe.drainS" .)) .Values.driver.closeS -}}
{{- end -}}

{{- define "steppe.site" -}}
{{- $sites := default dict .Values.run.sites -}}
{{- $ledger := default dict .Values.run.ledger -}}
{{- $sites.name | default $ledger.site | default (include "steppe.name" .) -}}
{{- end -}}

{{- define "steppe.agentNamespace" -}}
{{- .Values.agent.namespace | default .Release.Namespace -}}
{{- end -}}

{{- define "steppe.head" -}}
{{- include "steppe.name" . }}-head-svc.{{ .Release.Namespace }}.svc:6379
{{- end -}}
