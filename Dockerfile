# The dashboard alone, for a team (docs/hosting.md). Runs and secrets are mounted, never copied:
#   docker build -t probing .
#   docker run --read-only --tmpfs /tmp -p 127.0.0.1:8501:8501 \
#     -v "$PWD/cache:/srv/probing/cache:ro" \
#     -v "$PWD/.streamlit/secrets.toml:/srv/probing/.streamlit/secrets.toml:ro" probing
FROM python:3.11-slim

WORKDIR /srv/probing
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin probing

COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY probing ./probing
RUN python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[auth]'
COPY streamlit_app.py ./
COPY .streamlit/config.toml ./.streamlit/config.toml

# Without [auth] in the secrets nobody gets in; PROBING_SIGN_IN=no opens it to whoever reaches it.
ENV PROBING_SIGN_IN=required \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER probing
EXPOSE 8501
VOLUME /srv/probing/cache
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["python", "-m", "streamlit", "run", "streamlit_app.py", "--server.address", "0.0.0.0", "--server.port", "8501"]
