// The recipe of the embedded model, one verb per step: data, vocabulary, start, measure. Training itself is `qian train`.
return 0;
