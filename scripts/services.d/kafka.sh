# shellcheck shell=bash
# Apache Kafka, one KRaft node, from the jars on Maven Central.

# 4.4.0 is announced there, but its kafka-tools-api, which kafka_2.13 needs, is not (November 2026).
kafka_release=4.3.1
# The published pom leaves out the binding of slf4j 1.7, which Kafka logs through.
kafka_log4j_release=2.25.4

kafka_port() { echo 29092; }
kafka_ports() { echo "$1 $(($1 + 1)) $(($1 + 2))"; }

# kafka_env PORT: the address behind TLS and SASL, its authority and the programs are here only where we made them.
kafka_env() {
  echo "LOCKSTEP_TEST_KAFKA 127.0.0.1:$1"
  [ -e "$(kafka_authority)" ] || return 0
  echo "LOCKSTEP_TEST_KAFKA_SASL 127.0.0.1:$(($1 + 2))"
  echo "LOCKSTEP_TEST_KAFKA_AUTHORITY $(kafka_authority)"
  echo "LOCKSTEP_TEST_KAFKA_LIBS $(kafka_libs)"
}
kafka_authority() { echo "$(dir_of kafka)/authority.pem"; }
kafka_stop_signal() { echo TERM; }

kafka_libs() { echo "$base/kafka/libs-$kafka_release"; }

kafka_installed() { [ -e "$(kafka_libs)/kafka-tools-$kafka_release.jar" ] && command -v java >/dev/null; }
kafka_version() { echo "$kafka_release"; }

kafka_install() {
  command -v java >/dev/null || apt_install default-jre-headless
  command -v mvn >/dev/null || apt_install maven
  kafka_check_java
  kafka_fetch
}

kafka_check_java() {
  local major
  major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
  [ "${major:-0}" -ge 17 ] || die "Kafka $kafka_release needs Java 17 or later and the java on the PATH is ${major:-unknown}: install default-jre-headless or change the PATH"
}

kafka_fetch() {
  local libs work log
  libs=$(kafka_libs)
  work=$base/kafka/maven
  log=$work/log
  rm -rf "$work" "$libs.new"
  mkdir -p "$work" || die "cannot create $work"
  cat >"$work/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_release</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$kafka_release</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>$kafka_log4j_release</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$kafka_log4j_release</version>
    </dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$work/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$libs.new" >"$log" 2>&1 </dev/null \
    || die_with_log "$log" "cannot fetch Kafka $kafka_release from Maven Central"
  rm -rf "$libs" # an earlier set, with fewer programs
  mv "$libs.new" "$libs"
}

kafka_java() { echo java -Xms256m -Xmx512m -Dlog4j.shutdownHookEnabled=false \
  "-Dlog4j2.configurationFile=$base/kafka/log4j2.properties" -cp "$(kafka_libs)/*"; }

kafka_prepare() {
  local dir java
  dir=$(dir_of kafka)
  kafka_check_java
  make_user kafka
  make_dir kafka kafka
  kafka_keys "$dir"
  kafka_configure "$dir" "$(configured_port kafka)"
  [ -d "$dir/data" ] && return
  rm -rf "$dir/data.new"
  install -d -o kafka -g kafka "$dir/data.new"
  sed "s#^log.dirs=.*#log.dirs=$dir/data.new#" "$dir/server.properties" >"$dir/format.properties"
  read -ra java < <(kafka_java)
  run_as kafka "${java[@]}" kafka.tools.StorageTool format \
    --cluster-id="$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d =)" --config "$dir/format.properties" \
    >>"$(log_of kafka)" 2>&1 || die_with_log "$(log_of kafka)" "cannot format the storage of kafka"
  mv "$dir/data.new" "$dir/data"
}

# kafka_keys DIR: a certificate that signs itself is its own authority.
kafka_keys() {
  local dir=$1
  [ -e "$(kafka_authority)" ] && return
  rm -f "$dir/keys.p12"
  keytool -genkeypair -alias kafka -keyalg EC -groupname secp256r1 -validity 3650 -dname CN=lockstep-test \
    -ext san=ip:127.0.0.1,dns:localhost -ext bc:c=ca:true -storetype PKCS12 -keystore "$dir/keys.p12" -storepass lockstep \
    >>"$(log_of kafka)" 2>&1 || die_with_log "$(log_of kafka)" "cannot make the keys of kafka"
  chown kafka:kafka "$dir/keys.p12"
  keytool -exportcert -rfc -alias kafka -keystore "$dir/keys.p12" -storepass lockstep >"$dir/authority.new" \
    2>>"$(log_of kafka)" || die_with_log "$(log_of kafka)" "cannot export the certificate of kafka"
  chmod 644 "$dir/authority.new"
  mv "$dir/authority.new" "$(kafka_authority)"
}

# kafka_configure DIR PORT: the session time-out is short because a broker that was killed is let in again only after the
# session of its former self has ended. The users of SCRAM are made by the tests, through the listener without SASL.
kafka_configure() {
  local dir=$1 port=$2 controller=$(($2 + 1)) sasl=$(($2 + 2))
  cat >"$dir/log4j2.properties" <<CONF
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
CONF
  cat >"$dir/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller,SASL_SSL://127.0.0.1:$sasl
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SASL_SSL://127.0.0.1:$sasl
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
ssl.keystore.location=$dir/keys.p12
ssl.keystore.type=PKCS12
ssl.keystore.password=lockstep
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_lockstep="lockstep";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs=$dir/data
num.partitions=3
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
CONF
}

kafka_launch() {
  local java
  read -ra java < <(kafka_java)
  spawn_server kafka kafka "${java[@]}" kafka.Kafka "$(dir_of kafka)/server.properties"
}

# kafka_ready PORT: an ApiVersions request, answered by the correlation id we sent. An open port alone would also be
# found on a paused broker.
kafka_ready() {
  local answer
  answer=$(
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf '\0\0\0\x0a\0\x12\0\0\0\0\0\x2a\xff\xff' >&3
    timeout 2 head -c 8 <&3 | od -An -tx1
  ) 2>/dev/null
  [[ $answer == *'00 00 00 2a' ]]
}
