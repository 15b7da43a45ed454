FROM drumbeat-test/base
# The server's jars and a Java without a screen; Debian's package `zookeeper` adds scripts, and a Java with one.
RUN DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends default-jre-headless libzookeeper-java
