@cd /d "%~dp0"
@if defined PYTHON ("%PYTHON%" launch.py %*) else (python launch.py %*)
