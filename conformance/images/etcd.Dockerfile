FROM drumbeat-test/base
RUN DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends etcd-server
