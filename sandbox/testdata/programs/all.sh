trap 'echo bye' EXIT
x=$(echo a | tr a b)
(sleep 0 & wait)
cat <<END
$x
END
mkfifo p
echo through >p &
cat p
wait
umask
kill -0 $$
