#!/bin/bash
# Formats a new volume, then starts the broker. It replaces the image's entry point, which writes into its program
# folder (read-only here) and expects key stores in Java's format.
set -euo pipefail
mkdir -p /tmp/kafka
cat /etc/kafka/tls/tls.key /etc/kafka/tls/tls.crt >/tmp/kafka/keystore.pem
run() { java -Dlog4j2.configurationFile=/etc/kafka/config/log4j2.properties -cp '/opt/kafka/libs/*' "$@"; }
# The id of the cluster. Its value has no meaning, but it is stored in the volume and must stay the same.
run -Xmx96m kafka.tools.StorageTool format --ignore-formatted -t 5L6g3nShT-eMCtK--X86sw -c /etc/kafka/config/server.properties
exec java -Dlog4j2.configurationFile=/etc/kafka/config/log4j2.properties -cp '/opt/kafka/libs/*' \
  -Xms160m -Xmx256m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
  kafka.Kafka /etc/kafka/config/server.properties
