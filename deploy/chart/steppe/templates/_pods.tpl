{{- define "steppe.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user }}
runAsGroup: {{ .Values.user }}
fsGroup: {{ .Values.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "steppe.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* image: (list $ "worker") */ -}}
{{- define "steppe.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "steppe.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.images.pullSecrets }}{{ $names = append $names (dict "name" .) }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{- /* Folders that every pod of Ray may write. */ -}}
{{- define "steppe.scratchMounts" -}}
- {name: scratch, mountPath: /tmp}
- {name: home, mountPath: /home/steppe}
- {name: shared-memory, mountPath: /dev/shm}
{{- end -}}

{{- /* (list $ "32Gi") */ -}}
{{- define "steppe.scratchVolumes" -}}
- {name: scratch, emptyDir: {}}
- {name: home, emptyDir: {}}
- {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: {{ . }}}}
{{- end -}}

{{- define "steppe.runMounts" -}}
- {name: models, mountPath: /models}
- {name: config, mountPath: /etc/steppe/config, readOnly: true}
{{- range $name, $secret := .Values.secrets }}
- {name: secret-{{ $name }}, mountPath: /etc/steppe/secrets/{{ $name }}, readOnly: true}
{{- end }}
{{- if .Values.secrets }}
- {name: keys, mountPath: /etc/steppe/keys, readOnly: true}
{{- end }}
{{- end -}}

{{- define "steppe.runVolumes" -}}
- name: models
  {{- if .Values.models.claim }}
  persistentVolumeClaim: {claimName: {{ .Values.models.claim }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.models.size }}}
  {{- end }}
- name: config
  configMap: {name: {{ include "steppe.name" . }}-run}
{{- range $name, $secret := .Values.secrets }}
- name: secret-{{ $name }}
  secret: {secretName: {{ $secret }}, defaultMode: 0440}
{{- end }}
{{- if .Values.secrets }}
- {name: keys, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
{{- end }}
{{- end -}}

{{- /* Kubernetes lets the group of a pod read Secrets; keys have to be for their owner alone.
       (list $ "worker") */ -}}
{{- define "steppe.copyKeys" -}}
{{- $root := index . 0 -}}
- name: copy-keys
  image: {{ include "steppe.image" . }}
  imagePullPolicy: {{ $root.Values.images.pullPolicy }}
  securityContext: {{- include "steppe.containerSecurity" $root | nindent 4 }}
  command:
    - sh
    - -ec
    - |
      cd /etc/steppe/secrets
      for file in */*; do install -D -m 0400 "$file" "/etc/steppe/keys/$file"; done
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
  volumeMounts:
    {{- range $name, $secret := $root.Values.secrets }}
    - {name: secret-{{ $name }}, mountPath: /etc/steppe/secrets/{{ $name }}, readOnly: true}
    {{- end }}
    - {name: keys, mountPath: /etc/steppe/keys}
{{- end -}}

{{- define "steppe.env" -}}
- {name: HOME, value: /home/steppe}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end -}}

{{- define "steppe.runEnv" -}}
- {name: HF_HOME, value: /models}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $from := .Values.secretEnv }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}}
{{- end }}
{{- end -}}
