#!/bin/bash
# Creates the topics and their access rules, the same as in k8s/strimzi. It may run again at any time. Jobs of
# k8s/standalone and k8s/msk run it.
set -euo pipefail
mkdir -p /tmp/kafka
cat /etc/kafka/tls/tls.key /etc/kafka/tls/tls.crt >/tmp/kafka/keystore.pem
cat >/tmp/kafka/client.properties <<'P'
security.protocol=SSL
ssl.keystore.type=PEM
ssl.keystore.location=/tmp/kafka/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=/etc/kafka/tls/ca.crt
P
export JAVA_TOOL_OPTIONS='-Xmx96m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=/etc/kafka/config/log4j2.properties'
bootstrap=${BOOTSTRAP:-kafka-kafka-bootstrap:9093}
tool() { java -cp '/opt/kafka/libs/*' "$1" --bootstrap-server "$bootstrap" --command-config /tmp/kafka/client.properties "${@:2}" 2> >(grep -v JAVA_TOOL_OPTIONS >&2); }

topic() { # topic NAME PARTITIONS RETENTION_MS [MORE SETTINGS…]: a topic that exists gets the settings, too
  local setting settings=
  for setting in "retention.ms=$3" "${@:4}"; do settings+=${settings:+,}$setting; done
  tool org.apache.kafka.tools.TopicCommand --create --if-not-exists --topic "$1" --partitions "$2" --replication-factor "${REPLICAS:-1}"
  tool kafka.admin.ConfigCommand --alter --entity-type topics --entity-name "$1" --add-config "$settings"
}
allow() { # allow USER OPERATIONS TOPIC…
  local operations=() topics=() o t
  for o in $2; do operations+=(--operation "$o"); done
  for t in "${@:3}"; do topics+=(--topic "$t"); done
  tool org.apache.kafka.tools.AclCommand --add --allow-principal "${PRINCIPAL:-User:}$1" "${operations[@]}" "${topics[@]}" >/dev/null
}
groups() { # groups USER: every consumer group whose name begins with the name of the user
  tool org.apache.kafka.tools.AclCommand --add --allow-principal "${PRINCIPAL:-User:}$1" --resource-pattern-type prefixed --operation Read --operation Describe --operation Delete --group "$1" >/dev/null
}

until tool org.apache.kafka.tools.TopicCommand --list >/dev/null 2>&1; do sleep 1; done

# Brokers of MSK have no administrator of their own, and admit everybody to what has no rule. So these come first: then
# everything has a rule, and nobody but the administrator may do what the rules below do not allow.
if [[ -n ${ADMINISTRATOR:-} ]]; then
  tool org.apache.kafka.tools.AclCommand --add --allow-principal "$PRINCIPAL$ADMINISTRATOR" --operation All --cluster --topic '*' --group '*' --transactional-id '*' >/dev/null
fi

# Events about patients and their copies among the dead letters are kept for seven days: this bounds how long Kafka still
# has what an erasure removes elsewhere (docs/privacy.md). Analytics' database keeps them for longer. Sign-ins are kept for
# a year, which is longer than any session. Who was erased is kept for ever.
week=${EVENT_RETENTION_MS:-604800000}
year=31536000000
topic patient.v1 6 "$week"
topic billing.v1 6 "$week"
topic auth.v1 3 $year
topic patient.v1.dead 1 "$week"
topic billing.v1.dead 1 "$week"
topic auth.v1.dead 1 -1
topic patient.erasures 1 -1 cleanup.policy=compact

allow patient 'Write Describe' patient.v1
allow patient 'Read Write Describe' patient.erasures
allow billing 'Write Describe' billing.v1
allow auth 'Write Describe' auth.v1
for user in patient billing auth; do
  allow $user 'Read Describe' auth.v1
  allow $user 'Read Write Describe' auth.v1.dead
  groups $user
done
allow analytics 'Read Describe' patient.v1 billing.v1 auth.v1
allow analytics 'Read Write Describe' patient.v1.dead billing.v1.dead auth.v1.dead
groups analytics
