a=(1 2 3)
diff <(echo 1) <(echo 1) && echo ${#a[@]}
coproc cat
echo hi >&${COPROC[1]}
read -ru ${COPROC[0]} line
echo $line
(exec 3<>/dev/tcp/127.0.0.1/9) || echo closed
