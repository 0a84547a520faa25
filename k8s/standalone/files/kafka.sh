#!/bin/bash
# Starts the broker, formatting a new volume first. The image's own entry point is not used: it writes into its program
# folder, which is read-only here, and expects key stores in Java's format.
set -euo pipefail
mkdir -p /tmp/kafka
cat /etc/kafka/tls/tls.key /etc/kafka/tls/tls.crt >/tmp/kafka/keystore.pem
run() { java -Dlog4j2.configurationFile=/etc/kafka/config/log4j2.properties -cp '/opt/kafka/libs/*' "$@"; }
# The cluster's id is part of the volume; it says nothing and only has to stay the same.
run -Xmx96m kafka.tools.StorageTool format --ignore-formatted -t 5L6g3nShT-eMCtK--X86sw -c /etc/kafka/config/server.properties
exec java -Dlog4j2.configurationFile=/etc/kafka/config/log4j2.properties -cp '/opt/kafka/libs/*' \
  -Xms160m -Xmx256m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
  kafka.Kafka /etc/kafka/config/server.properties
