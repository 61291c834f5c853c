# One image for the driver and for Ray workers.
#
#   docker build -t vitnas --build-arg WHEELS=wheels .
#   docker run --rm -it --init --shm-size=256m -v vitnas:/data vitnas
#
# pip takes the CPU build of torch where WHEELS or PIP_EXTRA_INDEX offers it, else the CUDA build. See docs/docker.md.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# Another index for pip, beside its own.
ARG PIP_EXTRA_INDEX=
# A folder of wheels: relative to the build context, or the absolute path of a volume that is mounted during the build.
ARG WHEELS=
# Optional dependencies of the project, separated by commas.
ARG EXTRAS=cluster
RUN python3 -m venv --without-pip /opt/vitnas
COPY pyproject.toml README.md LICENSE py.typed __init__.py cli.py /src/
COPY roadmap /src/roadmap
COPY studies /src/studies
RUN --mount=type=bind,target=/context cd /context \
    && if [ -n "$WHEELS" ]; then export PIP_FIND_LINKS="$(realpath -e "$WHEELS")"; fi \
    && PIP_EXTRA_INDEX_URL="$PIP_EXTRA_INDEX" PIP_ROOT_USER_ACTION=ignore \
       python3 -m pip --python /opt/vitnas/bin/python install --no-cache-dir --disable-pip-version-check "/src${EXTRAS:+[$EXTRAS]}" \
    && cd /opt/vitnas/lib/python3*/site-packages \
    && rm -rf torch/include torch/share torch/test torch/bin/test_* torch/bin/protoc* pyarrow/include pyarrow/tests pandas/tests ray/jars \
    && find numpy scipy sklearn sympy networkx matplotlib -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE}
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin vitnas && install -d -o vitnas -g vitnas /data
COPY --from=build /opt/vitnas /opt/vitnas
ENV PATH=/opt/vitnas/bin:$PATH VITNAS_STORE=/data PYTHONUNBUFFERED=1
USER vitnas
WORKDIR /data
VOLUME /data
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s CMD vitnas --help > /dev/null && test -w /data
ENTRYPOINT ["vitnas"]
CMD ["roadmap", "--steps", "all", "--store", "/data"]
